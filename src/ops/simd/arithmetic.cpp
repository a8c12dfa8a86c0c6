// Arithmetic whose result is exact or correctly rounded: the bits of the scalar back end.
#include "ops/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/arithmetic.cpp"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
//
#include "ops/simd/loops.h"

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bitnet::ops::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <Op op, class V>
HWY_INLINE V apply(V a, V b) {
  if constexpr (op == Op::kAdd) return hn::Add(a, b);
  if constexpr (op == Op::kSub) return hn::Sub(a, b);
  if constexpr (op == Op::kMul) return hn::Mul(a, b);
  if constexpr (op == Op::kDiv) return hn::Div(a, b);
  // a where it is less or NaN; comparisons with a NaN are false.
  if constexpr (op == Op::kMinimum) return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::Ne(a, a)), a, b);
  if constexpr (op == Op::kMaximum) return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::Ne(a, a)), a, b);
}

template <Op op, class T>
void binary_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto* HWY_RESTRICT y = reinterpret_cast<T*>(operands[0]);
  const auto* a = reinterpret_cast<const T*>(operands[1]);
  const auto* b = reinterpret_cast<const T*>(operands[2]);
  int64_t i = 0;
  if (n >= lanes) {
    const auto a0 = hn::Set(d, a[0]), b0 = hn::Set(d, b[0]);
    if (strides[1] == 0) {
      for (; i + lanes <= n; i += lanes) hn::StoreU(apply<op>(a0, hn::LoadU(d, b + i)), d, y + i);
    } else if (strides[2] == 0) {
      for (; i + lanes <= n; i += lanes) hn::StoreU(apply<op>(hn::LoadU(d, a + i), b0), d, y + i);
    } else {
      for (; i + lanes <= n; i += lanes)
        hn::StoreU(apply<op>(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i);
    }
  }
  const hn::CappedTag<T, 1> one;
  for (; i < n; ++i) {
    hn::StoreU(apply<op>(hn::LoadU(one, a + i * strides[1]), hn::LoadU(one, b + i * strides[2])), one, y + i);
  }
}

LoopKernel find_arithmetic(Op op, DType dtype) {
  (void)op;
  if (dtype == DType::kF32) {
    switch (op) {
      case Op::kAdd:
        return binary_loop<Op::kAdd, float>;
      case Op::kMul:
        return binary_loop<Op::kMul, float>;
      default:
        return nullptr;
    }
  }
  return nullptr;
}

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitnet::ops::simd {

HWY_EXPORT(find_arithmetic);

LoopKernel arithmetic_kernel(Op op, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(find_arithmetic)(op, dtype);
}
LoopKernel function_kernel(Op, DType) {
  return nullptr;
}
ReduceKernel reduce_kernel(Op, DType) {
  return nullptr;
}
RowKernel row_kernel(Op, DType) {
  return nullptr;
}
double multiply_adds_per_second() {
  return 1e10;
}

}  // namespace bitnet::ops::simd
#endif
