// Operations whose result is exact or correctly rounded: the bits of the scalar back end.
#include "ops/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/arithmetic.cpp"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
//
#include "ops/simd/lanes-inl.h"
#include "ops/simd/loops.h"

#include <cstddef>

HWY_BEFORE_NAMESPACE();
namespace bitnet::ops::simd::HWY_NAMESPACE {

template <class V>
inline constexpr bool kIsInteger = std::is_integral_v<hn::TFromV<V>>;

template <Op op, class V>
HWY_INLINE V apply(V a, V b) {
  if constexpr (kIsInteger<V> && op == Op::kMinimum) return hn::Min(a, b);
  if constexpr (kIsInteger<V> && op == Op::kMaximum) return hn::Max(a, b);
  if constexpr (op == Op::kAdd) return hn::Add(a, b);
  if constexpr (op == Op::kSub) return hn::Sub(a, b);
  if constexpr (op == Op::kMul) return hn::Mul(a, b);
  if constexpr (op == Op::kDiv) return hn::Div(a, b);
  // a where it is less or NaN; comparisons with a NaN are false.
  if constexpr (!kIsInteger<V> && op == Op::kMinimum)
    return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b);
  if constexpr (!kIsInteger<V> && op == Op::kMaximum)
    return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b);
  if constexpr (op == Op::kReluBackward) return hn::IfThenElseZero(hn::Gt(b, hn::Zero(hn::DFromV<V>())), a);
  if constexpr (op == Op::kReluSquaredBackward) {
    return hn::IfThenElseZero(hn::Gt(b, hn::Zero(hn::DFromV<V>())), hn::Mul(hn::Add(a, a), b));
  }
  if constexpr (op == Op::kSigmoidBackward) {
    return hn::Mul(hn::Mul(a, b), hn::Sub(hn::Set(hn::DFromV<V>(), 1), b));
  }
  if constexpr (op == Op::kTanhBackward) {
    return hn::Mul(a, hn::Sub(hn::Set(hn::DFromV<V>(), 1), hn::Mul(b, b)));
  }
}

template <Op op, class V>
HWY_INLINE V apply(V a) {
  const hn::DFromV<V> d;
  if constexpr (op == Op::kNeg) return hn::Neg(a);
  if constexpr (op == Op::kAbs) return hn::Abs(a);
  if constexpr (op == Op::kSquare) return hn::Mul(a, a);
  // Keeps NaN, which is not less than 0.
  if constexpr (kIsInteger<V> && op == Op::kRelu) return hn::Max(a, hn::Zero(d));
  if constexpr (!kIsInteger<V> && op == Op::kRelu)
    return hn::IfThenElse(hn::Le(a, hn::Zero(d)), hn::Zero(d), a);
  if constexpr (op == Op::kReluSquared) return apply<Op::kSquare>(apply<Op::kRelu>(a));
  if constexpr (op == Op::kSqrt) return hn::Sqrt(a);
  if constexpr (op == Op::kRsqrt) return hn::Div(hn::Set(d, 1), hn::Sqrt(a));
  if constexpr (op == Op::kReciprocal) return hn::Div(hn::Set(d, 1), a);
  if constexpr (op == Op::kFloor) return hn::Floor(a);
  if constexpr (op == Op::kCeil) return hn::Ceil(a);
  if constexpr (op == Op::kRound) return hn::Round(a);
}

template <Op op, class T>
void binary_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  Reader<T> a(operands[1], strides[1]), b(operands[2], strides[2]);
  map<T>(
      n, operands[0], [](auto x, auto y) HWY_ATTR { return apply<op>(x, y); }, a, b);
}

template <Op op, class T>
void unary_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  Reader<T> a(operands[1], strides[1]);
  map<T>(
      n, operands[0], [](auto x) HWY_ATTR { return apply<op>(x); }, a);
}

template <Op op, class V>
HWY_INLINE auto compare(V a, V b) {
  if constexpr (op == Op::kEqual) return hn::Eq(a, b);
  if constexpr (op == Op::kNotEqual) return hn::Not(hn::Eq(a, b));  // Highway's Ne is false for NaN on AVX
  if constexpr (op == Op::kLess) return hn::Lt(a, b);
  if constexpr (kIsInteger<V> && op == Op::kLessEqual) return hn::Not(hn::Gt(a, b));
  if constexpr (kIsInteger<V> && op == Op::kGreaterEqual) return hn::Not(hn::Lt(a, b));
  if constexpr (!kIsInteger<V> && op == Op::kLessEqual) return hn::Le(a, b);
  if constexpr (op == Op::kGreater) return hn::Gt(a, b);
  if constexpr (!kIsInteger<V> && op == Op::kGreaterEqual) return hn::Ge(a, b);
}

/// Types of 32 bits; a result byte for each.
template <Op op, class T>
void compare_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  const Tag<T> d;
  const hn::Rebind<int32_t, Tag<T>> word;
  const hn::Rebind<uint8_t, Tag<T>> byte;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  Reader<T> a(operands[1], strides[1]), b(operands[2], strides[2]);
  auto* y = reinterpret_cast<uint8_t*>(operands[0]);
  const auto bytes = [&](auto u, auto v) HWY_ATTR {
    return hn::DemoteTo(byte, hn::IfThenElseZero(hn::RebindMask(word, compare<op>(u, v)), hn::Set(word, 1)));
  };
  Cursor<T> p = a.cursor(), q = b.cursor();
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(bytes(p.next(), q.next()), byte, y + i);
  if (i >= n) return;
  uint8_t rest[HWY_MAX_BYTES];
  hn::StoreU(bytes(a.rest(i, n - i), b.rest(i, n - i)), byte, rest);
  std::memcpy(y + i, rest, static_cast<size_t>(n - i));
}

/// Elements of 32 bits, whatever they mean.
void where_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  const Tag<int32_t> d;
  const hn::Rebind<uint8_t, Tag<int32_t>> byte;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  Reader<int32_t> a(operands[2], strides[2]), b(operands[3], strides[3]);
  uint8_t flags[HWY_MAX_BYTES];
  std::memset(flags, std::to_integer<int>(operands[1][0]), sizeof flags);
  const bool shared = strides[1] == 0;
  const auto* condition = reinterpret_cast<const uint8_t*>(operands[1]);
  auto* y = reinterpret_cast<int32_t*>(operands[0]);
  const auto choose = [&](const uint8_t* from, auto u, auto v) HWY_ATTR {
    return hn::IfThenElse(hn::Gt(hn::PromoteTo(d, hn::LoadU(byte, from)), hn::Zero(d)), u, v);
  };
  Cursor<int32_t> p = a.cursor(), q = b.cursor();
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(choose(shared ? flags : condition + i, p.next(), q.next()), d, y + i);
  }
  if (i >= n) return;
  if (!shared) std::memcpy(flags, condition + i, static_cast<size_t>(n - i));
  int32_t rest[HWY_MAX_BYTES / sizeof(int32_t)];
  hn::StoreU(choose(flags, a.rest(i, n - i), b.rest(i, n - i)), d, rest);
  std::memcpy(y + i, rest, static_cast<size_t>(n - i) * sizeof(int32_t));
}

template <class T>
LoopKernel float_kernel(Op op) {
  const LoopKernel binary =
      find<LoopKernel, Op::kAdd, Op::kSub, Op::kMul, Op::kDiv, Op::kMinimum, Op::kMaximum, Op::kReluBackward,
           Op::kReluSquaredBackward, Op::kSigmoidBackward, Op::kTanhBackward>(
          op, []<Op o>() -> LoopKernel { return binary_loop<o, T>; });
  if (binary != nullptr) return binary;
  // Highway's portable target loses the sign of zero when it rounds.
  const bool rounds = op == Op::kFloor || op == Op::kCeil || op == Op::kRound;
  if (rounds && HWY_TARGET == HWY_SCALAR) return nullptr;
  return find<LoopKernel, Op::kNeg, Op::kAbs, Op::kSquare, Op::kRelu, Op::kReluSquared, Op::kSqrt, Op::kRsqrt,
              Op::kReciprocal, Op::kFloor, Op::kCeil, Op::kRound>(
      op, []<Op o>() -> LoopKernel { return unary_loop<o, T>; });
}

template <class T>
LoopKernel compare_kernel(Op op) {
  return find<LoopKernel, Op::kEqual, Op::kNotEqual, Op::kLess, Op::kLessEqual, Op::kGreater,
              Op::kGreaterEqual>(op, []<Op o>() -> LoopKernel { return compare_loop<o, T>; });
}

LoopKernel integer_kernel(Op op) {
  const LoopKernel binary = find<LoopKernel, Op::kAdd, Op::kSub, Op::kMul, Op::kMinimum, Op::kMaximum>(
      op, []<Op o>() -> LoopKernel { return binary_loop<o, int32_t>; });
  if (binary != nullptr) return binary;
  return find<LoopKernel, Op::kNeg, Op::kAbs, Op::kSquare, Op::kRelu, Op::kReluSquared>(
      op, []<Op o>() -> LoopKernel { return unary_loop<o, int32_t>; });
}

LoopKernel find_arithmetic(Op op, DType dtype) {
  if (op == Op::kWhere) {
    const bool words = dtype == DType::kF32 || dtype == DType::kI32 || dtype == DType::kU32;
    return words ? where_loop : nullptr;
  }
  switch (dtype) {
    case DType::kF32: {
      const LoopKernel comparison = compare_kernel<float>(op);
      return comparison != nullptr ? comparison : float_kernel<float>(op);
    }
    case DType::kI32: {
      const LoopKernel comparison = compare_kernel<int32_t>(op);
      return comparison != nullptr ? comparison : integer_kernel(op);
    }
    case DType::kF16:
      return kConvertsF16 ? float_kernel<F16>(op) : nullptr;
    case DType::kBF16:
      return float_kernel<BF16>(op);
    case DType::kF64:
      return float_kernel<double>(op);
    default:
      return nullptr;
  }
}

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitnet::ops::simd {

HWY_EXPORT(find_arithmetic);

LoopKernel arithmetic_kernel(Op op, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(find_arithmetic)(op, dtype);
}

}  // namespace bitnet::ops::simd
#endif
