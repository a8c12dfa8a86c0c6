#include "inference/head_activations.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bitnet {
namespace {

constexpr int64_t kSubBlock = 16;
constexpr double kUnit = 0x1p-24;  // the relative error of one f32 rounding
constexpr int32_t kBase = 254, kInt8Limit = kBase * 127 + 126, kQ6Limit = 16383;
// What the f32 sums of bounds themselves round, and their f64 terms: (cols / 256 + 24) * 2^-24 < 2^-15 for
// cols < 2^16.
constexpr double kRoundUp = 1 + 0x1p-14;

/// gamma_m = m u / (1 - m u): m roundings in a row, as in dense_matmul (docs/NUMERICS.md).
double gamma(double roundings) {
  return roundings * kUnit / (1 - roundings * kUnit);
}

float round_up_to_float(double value) {
  return std::nextafter(static_cast<float>(value * kRoundUp), std::numeric_limits<float>::infinity());
}

int32_t rounded(float x, double inverse_scale, int32_t limit) {
  return std::clamp(static_cast<int32_t>(std::lrint(x * inverse_scale)), -limit, limit);
}

}  // namespace

HeadActivations::HeadActivations(Format format, int64_t cols, int64_t max_tokens)
    : format_(format),
      cols_(cols),
      stride_((cols + 63) / 64 * 64),
      sub_blocks_((cols + kSubBlock - 1) / kSubBlock),
      hi_(static_cast<size_t>(max_tokens * stride_)),
      lo_(static_cast<size_t>(max_tokens * stride_)),
      token_(static_cast<size_t>(max_tokens)) {
  if (format == Format::kInt8) {
    hi_sums_.resize(token_.size());
    lo_sums_.resize(token_.size());
  } else {
    offsets_.resize(static_cast<size_t>(max_tokens * sub_blocks_));
    weights_.resize(offsets_.size());
  }
}

bool HeadActivations::split(int64_t token, std::span<const float> x) {
  float largest = 0;
  for (const float value : x) {
    if (!(std::fabs(value) <= 1e10f)) return false;
    largest = std::max(largest, std::fabs(value));
  }
  if (largest < 1e-10f) return false;
  if (format_ == Format::kInt8) {
    split_i8(token, x, largest);
  } else {
    split_q6_k(token, x, largest);
  }
  return true;
}

void HeadActivations::split_i8(int64_t token, std::span<const float> x, float largest) {
  Token& state = token_[static_cast<size_t>(token)];
  state.scale = largest / static_cast<float>(kInt8Limit);
  const double inverse = 1.0 / state.scale;
  int8_t* hi = hi_.as<int8_t>() + token * stride_;
  int8_t* lo = lo_.as<int8_t>() + token * stride_;
  int32_t hi_sum = 0, lo_sum = 0;
  double squares = 0, error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const int32_t q = rounded(x[i], inverse, kInt8Limit);
    // hi is q / 254 rounded to nearest, so that |lo| <= 127.
    const int32_t high = (q + (q < 0 ? -127 : 127)) / kBase;
    hi[i] = static_cast<int8_t>(high);
    lo[i] = static_cast<int8_t>(q - kBase * high);
    hi_sum += hi[i];
    lo_sum += lo[i];
    const double difference = double{x[i]} - double{state.scale} * q;
    squares += double{x[i]} * x[i];
    error += difference * difference;
  }
  hi_sums_[static_cast<size_t>(token)] = hi_sum;
  lo_sums_[static_cast<size_t>(token)] = lo_sum;
  const double norm = std::sqrt(squares), distance = std::sqrt(error);
  const double exact_kernel = gamma(static_cast<double>(cols_) / 16 + 5);
  state.norm = round_up_to_float(norm);
  state.slack = round_up_to_float(distance + (12 * kUnit + exact_kernel) * (norm + distance));
}

void HeadActivations::split_q6_k(int64_t token, std::span<const float> x, float largest) {
  Token& state = token_[static_cast<size_t>(token)];
  state.scale = largest / static_cast<float>(kQ6Limit);
  const double inverse = 1.0 / state.scale;
  const double exact_kernel = gamma(static_cast<double>(cols_) / 16 + 5);
  const double scan = gamma(static_cast<double>(cols_) / 256 + 18);
  int8_t* hi = hi_.as<int8_t>() + token * stride_;
  int8_t* lo = lo_.as<int8_t>() + token * stride_;
  for (int64_t j = 0; j < sub_blocks_; ++j) {
    int32_t sum = 0;
    double magnitude = 0, difference = 0;
    for (int64_t i = j * kSubBlock; i < (j + 1) * kSubBlock; ++i) {
      const float value = x[static_cast<size_t>(i)];
      const int32_t q = rounded(value, inverse, kQ6Limit);
      lo[i] = static_cast<int8_t>(q & 127);
      hi[i] = static_cast<int8_t>((q - lo[i]) / 128);
      sum += q;
      magnitude += std::fabs(value);
      difference += std::fabs(value - double{state.scale} * q);
    }
    const auto place = static_cast<size_t>(token * sub_blocks_ + j);
    offsets_[place] = -32 * sum;
    weights_[place] = round_up_to_float(32 * (difference + exact_kernel * magnitude) +
                                        32 * scan * (magnitude + difference));
  }
}

}  // namespace bitnet
