// Elementary functions and activations of f32, and of 16 bits through it. docs/NUMERICS.md has the bounds.
#include "ops/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/functions.cpp"
#include <hwy/foreach_target.h>
//
#include "ops/simd/functions-inl.h"
#include "ops/simd/loops.h"

HWY_BEFORE_NAMESPACE();
namespace bitnet::ops::simd::HWY_NAMESPACE {

constexpr float kGeluSlope = 1.59576912F;    // 2 sqrt(2 / pi)
constexpr float kGeluCubic = 0.0713548163F;  // the same times 0.044715

/// 2u of gelu_tanh.
HWY_INLINE Floats gelu_argument(Floats x) {
  return hn::Mul(x, hn::MulAdd(hn::Mul(x, x), constant(kGeluCubic), constant(kGeluSlope)));
}

template <Op op>
HWY_INLINE Floats apply(Floats x) {
  if constexpr (op == Op::kExp) return exp(x);
  if constexpr (op == Op::kLog) return log(x);
  if constexpr (op == Op::kTanh) return tanh(x);
  if constexpr (op == Op::kSigmoid) return sigmoid(x);
  if constexpr (op == Op::kSilu) return hn::Mul(x, sigmoid(x));
  if constexpr (op == Op::kGelu) {
    Floats exponential;
    return hn::Mul(x, normal_cdf(x, exponential));
  }
  if constexpr (op == Op::kGeluTanh) return hn::Mul(x, sigmoid(gelu_argument(x)));
}

template <Op op>
HWY_INLINE Floats apply(Floats g, Floats x) {
  const Floats one = constant(1);
  if constexpr (op == Op::kSiluBackward) {
    const Floats s = sigmoid(x);
    return hn::Mul(hn::Mul(g, s), hn::MulAdd(x, sigmoid(hn::Neg(x)), one));
  } else if constexpr (op == Op::kGeluBackward) {
    constexpr float kDensity = 0.398942280F;  // 1 / sqrt(2 pi)
    Floats exponential;
    const Floats cdf = normal_cdf(x, exponential);
    return hn::Mul(g, hn::MulAdd(hn::Mul(x, exponential), constant(kDensity), cdf));
  } else {
    static_assert(op == Op::kGeluTanhBackward);
    const Floats u = gelu_argument(x), s = sigmoid(u);
    const Floats slope = hn::MulAdd(hn::Mul(x, x), constant(3 * kGeluCubic), constant(kGeluSlope));
    return hn::Mul(g, hn::MulAdd(hn::Mul(hn::Mul(x, s), sigmoid(hn::Neg(u))), slope, s));
  }
}

template <Op op, class T>
void unary_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  Reader<T> a(operands[1], strides[1]);
  map<T>(
      n, operands[0], [](Floats x) HWY_ATTR { return apply<op>(x); }, a);
}

template <Op op, class T>
void binary_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  Reader<T> a(operands[1], strides[1]), b(operands[2], strides[2]);
  map<T>(
      n, operands[0], [](Floats g, Floats x) HWY_ATTR { return apply<op>(g, x); }, a, b);
}

template <class T>
LoopKernel kernel_of(Op op) {
  const LoopKernel unary =
      find<LoopKernel, Op::kExp, Op::kLog, Op::kTanh, Op::kSigmoid, Op::kSilu, Op::kGelu, Op::kGeluTanh>(
          op, []<Op o>() -> LoopKernel { return unary_loop<o, T>; });
  if (unary != nullptr) return unary;
  return find<LoopKernel, Op::kSiluBackward, Op::kGeluBackward, Op::kGeluTanhBackward>(
      op, []<Op o>() -> LoopKernel { return binary_loop<o, T>; });
}

LoopKernel find_function(Op op, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kernel_of<float>(op);
    case DType::kF16:
      return kConvertsF16 ? kernel_of<F16>(op) : nullptr;
    case DType::kBF16:
      return kernel_of<BF16>(op);
    default:
      return nullptr;
  }
}

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitnet::ops::simd {

HWY_EXPORT(find_function);

LoopKernel function_kernel(Op op, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(find_function)(op, dtype);
}

}  // namespace bitnet::ops::simd
#endif
