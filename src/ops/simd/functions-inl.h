// Elementary functions over whole ranges: Highway's, with the arguments that those leave undefined.
#if defined(BITNET_OPS_SIMD_FUNCTIONS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef BITNET_OPS_SIMD_FUNCTIONS_INL
#undef BITNET_OPS_SIMD_FUNCTIONS_INL
#else
#define BITNET_OPS_SIMD_FUNCTIONS_INL
#endif

#include "ops/simd/lanes-inl.h"

#include <limits>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace bitnet::ops::simd::HWY_NAMESPACE {

using Floats = hn::Vec<hn::ScalableTag<float>>;

HWY_INLINE Floats constant(float value) {
  return hn::Set(hn::ScalableTag<float>(), value);
}

/// e^x within 1 ULP where the result is normal.
HWY_INLINE Floats exp(Floats x) {
  const hn::ScalableTag<float> d;
  constexpr float kHighest = 88.7228317F;  // the last whose power is finite
  const Floats y = hn::Exp(d, hn::Max(hn::Min(x, constant(kHighest)), constant(-105.0F)));
  const Floats bounded =
      hn::IfThenElse(hn::Gt(x, constant(kHighest)), constant(std::numeric_limits<float>::infinity()), y);
  return hn::IfThenElse(hn::IsNaN(x), x, bounded);
}

HWY_INLINE Floats log(Floats x) {
  const hn::ScalableTag<float> d;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Floats y = hn::Log(d, x);
  const Floats at_zero = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), constant(-kInfinity), y);
  const Floats at_end = hn::IfThenElse(hn::Eq(x, constant(kInfinity)), x, at_zero);
  return hn::IfThenElse(hn::Ge(x, hn::Zero(d)), at_end, constant(std::numeric_limits<float>::quiet_NaN()));
}

HWY_INLINE Floats tanh(Floats x) {
  const hn::ScalableTag<float> d;
  const Floats y = hn::Tanh(d, hn::Max(hn::Min(x, constant(10.0F)), constant(-10.0F)));  // 1 from 9.02 on
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

HWY_INLINE Floats sigmoid(Floats x) {
  return hn::Div(constant(1), hn::Add(constant(1), exp(hn::Neg(x))));
}

/// e^(-x^2 / 2) of |x| <= 20: what the rounding of the square leaves out is put back.
HWY_INLINE Floats exp_minus_half_square(Floats x) {
  const Floats half = hn::Mul(x, constant(0.5F)), square = hn::Mul(half, x);
  const Floats rest = hn::MulSub(half, x, square);
  return hn::NegMulAdd(exp(hn::Neg(square)), rest, exp(hn::Neg(square)));
}

/// Phi(x) = erfc(-x / sqrt 2) / 2 within 8 ULP where it is normal. erfc(z) = e^(-z^2) t Q(t), t = 1 / (1 + z
/// / 2); Q is our minimax fit of degree 10 on 0 <= z <= 14 (Lawson's iteration), relative error 5e-9.
HWY_INLINE Floats normal_cdf(Floats x, Floats& exponential) {
  constexpr float kQ[] = {0.282093018F,  0.282142937F,   0.246320516F,  0.178875759F,
                          0.0796766728F, -0.0247310530F, 0.0753850788F, -0.393778086F,
                          0.452188611F,  -0.218658626F,  0.0404851586F};
  const hn::ScalableTag<float> d;
  const Floats size = hn::Min(hn::Abs(x), constant(20));  // Phi(-20) is 0 in f32
  const Floats t = hn::Div(constant(1), hn::MulAdd(size, constant(0.353553391F), constant(1)));
  Floats q = constant(kQ[10]);
  for (int i = 9; i >= 0; --i) q = hn::MulAdd(q, t, constant(kQ[i]));
  exponential = exp_minus_half_square(size);
  const Floats tail = hn::Mul(hn::Mul(constant(0.5F), exponential), hn::Mul(q, t));
  return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Sub(constant(1), tail), tail);
}

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
