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

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
