#include "inference/model_impl.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace bitnet {
namespace {

/// Llama 3.1: wavelengths beyond the original context are stretched by `factor`, short ones stay, those
/// between are blended.   Source: transformers modeling_rope_utils.py, _compute_llama3_parameters.
double llama3_scaled(double inv_freq, const RopeScaling& scaling) {
  const double original = static_cast<double>(scaling.original_max_position);
  const double wavelength = 2 * std::numbers::pi / inv_freq;
  if (wavelength < original / scaling.high_freq_factor) return inv_freq;
  if (wavelength > original / scaling.low_freq_factor) return inv_freq / scaling.factor;
  const double smooth = (original / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - smooth) * inv_freq / scaling.factor + smooth * inv_freq;
}

}  // namespace

std::vector<float> rope_inv_freq(const ModelConfig& config) {
  std::vector<float> inv_freq(static_cast<size_t>(config.head_dim / 2));
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    double value =
        std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim));
    switch (config.rope_scaling.type) {
      case RopeScaling::Type::kNone:
        break;
      case RopeScaling::Type::kLinear:
        value /= config.rope_scaling.factor;
        break;
      case RopeScaling::Type::kLlama3:
        value = llama3_scaled(value, config.rope_scaling);
        break;
    }
    if (!config.rope_factors.empty()) value /= config.rope_factors[i];
    inv_freq[i] = static_cast<float>(value);
  }
  return inv_freq;
}

void rope_angles(std::span<const float> inv_freq, float position, float* cos, float* sin) {
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const float angle = position * inv_freq[i];
    cos[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
    sin[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

}  // namespace bitnet
