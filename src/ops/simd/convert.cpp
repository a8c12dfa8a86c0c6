// Conversions between floats, and from small integers, through f32 lanes: each result is exact or rounded
// once.
#include "ops/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/convert.cpp"
#include <hwy/foreach_target.h>
//
#include "ops/simd/lanes-inl.h"
#include "ops/simd/loops.h"

HWY_BEFORE_NAMESPACE();
namespace bitnet::ops::simd::HWY_NAMESPACE {

using Singles = hn::ScalableTag<float>;

template <class T>
HWY_INLINE hn::Vec<Singles> load_single(const T* from) {
  const Singles d;
  const hn::Rebind<int32_t, Singles> word;
  if constexpr (std::is_same_v<T, int32_t>) {
    return hn::ConvertTo(d, hn::LoadU(word, from));
  } else if constexpr (std::is_integral_v<T>) {
    return hn::ConvertTo(d, hn::PromoteTo(word, hn::LoadU(hn::Rebind<T, Singles>(), from)));
  } else {
    return load(d, from);
  }
}

template <class From, class To>
void convert_loop(int64_t n, std::byte* const* operands, const int64_t*) {
  const Singles d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto* y = reinterpret_cast<To*>(operands[0]);
  const auto* x = reinterpret_cast<const From*>(operands[1]);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store<To>(load_single(x + i), d, y + i);
  if (i >= n) return;
  From in[HWY_MAX_BYTES / sizeof(float)] = {};
  To out[HWY_MAX_BYTES / sizeof(float)];
  std::memcpy(in, x + i, static_cast<size_t>(n - i) * sizeof(From));
  store<To>(load_single(in), d, out);
  std::memcpy(y + i, out, static_cast<size_t>(n - i) * sizeof(To));
}

/// To f32, f16 or bf16. f32 holds the sources, so that the only rounding is the last.
template <class From>
LoopKernel kernel_from(DType to) {
  if (to == DType::kBF16 && !std::is_same_v<From, int32_t>) return convert_loop<From, BF16>;
  if (to == DType::kF16 && kConvertsF16 && !std::is_same_v<From, int32_t>) return convert_loop<From, F16>;
  return to == DType::kF32 ? convert_loop<From, float> : nullptr;
}

LoopKernel find_conversion(DType from, DType to) {
  switch (from) {
    case DType::kF32:
      return kernel_from<float>(to);
    case DType::kBF16:
      return kernel_from<BF16>(to);
    case DType::kF16:
      return kConvertsF16 ? kernel_from<F16>(to) : nullptr;
    case DType::kI8:
      return kernel_from<int8_t>(to);
    case DType::kU8:
      return kernel_from<uint8_t>(to);
    case DType::kI16:
      return kernel_from<int16_t>(to);
    case DType::kI32:
      return kernel_from<int32_t>(to);
    default:
      return nullptr;
  }
}

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitnet::ops::simd {

HWY_EXPORT(find_conversion);

LoopKernel convert_kernel(DType from, DType to) {
  return HWY_DYNAMIC_DISPATCH(find_conversion)(from, to);
}

}  // namespace bitnet::ops::simd
#endif
