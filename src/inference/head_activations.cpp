#include "inference/head_activations.h"

#include "inference/rounded_head.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bitnet {
namespace {

constexpr int64_t kBlock = RoundedHead::kBlockCols;
constexpr double kUnit = 0x1p-24;  // the relative error of one f32 rounding
constexpr int32_t kLimit = 16383;
// What the f32 sums of bounds themselves round, and their f64 terms: (cols / 32 + 8) * 2^-24 < 2^-12 for
// cols < 2^16.
constexpr double kRoundUp = 1 + 0x1p-12;
// Of the bound's square: t^2 / 12 for random errors, t^2 = 2 ln(2 * 2^60), and what joining it to the error
// that is not random costs (docs/NUMERICS.md).
constexpr double kRandom = 84.56 / 12, kRandomShare = 17.0 / 16, kRestShare = 17;
constexpr double kMostSteps = 8;        // magnitude of a weight, rounded or not
constexpr double kMeanError = 0x1p-15;  // of a weight's rounding, at most

/// gamma_m = m u / (1 - m u): m roundings in a row, as in dense_matmul (docs/NUMERICS.md).
double gamma(double roundings) {
  return roundings * kUnit / (1 - roundings * kUnit);
}

float round_up_to_float(double value) {
  return std::nextafter(static_cast<float>(value * kRoundUp), std::numeric_limits<float>::infinity());
}

}  // namespace

HeadActivations::HeadActivations(int64_t cols, std::span<const int32_t> centres, int64_t max_tokens)
    : cols_(cols),
      stride_(std::ssize(centres)),
      blocks_(std::ssize(centres) / kBlock),
      centres_(centres),
      hi_(static_cast<size_t>(max_tokens * stride_)),
      lo_(static_cast<size_t>(max_tokens * stride_)),
      offsets_(static_cast<size_t>(max_tokens * blocks_)),
      whole_(static_cast<size_t>(max_tokens * stride_)),
      weights_(offsets_.size()),
      fine_weights_(offsets_.size()),
      scale_(static_cast<size_t>(max_tokens)) {}

bool HeadActivations::split(int64_t token, std::span<const float> x) {
  float largest = 0;
  for (const float value : x) {
    if (!(std::fabs(value) <= 1e10f)) return false;
    largest = std::max(largest, std::fabs(value));
  }
  if (largest < 1e-10f) return false;
  const float scale = largest / static_cast<float>(kLimit);
  scale_[static_cast<size_t>(token)] = scale;
  for (int64_t block = 0; block < blocks_; ++block) split_block(token, block, x, 1.0 / scale);
  return true;
}

void HeadActivations::split_block(int64_t token, int64_t block, std::span<const float> x, double inverse) {
  const double scale = scale_[static_cast<size_t>(token)];
  int8_t* hi = hi_.as<int8_t>() + token * stride_;
  int8_t* lo = lo_.as<int8_t>() + token * stride_;
  int64_t centre = 0;
  double magnitude = 0, difference = 0, squares = 0;
  for (int64_t i = block * kBlock; i < std::min((block + 1) * kBlock, cols_); ++i) {
    const double value = x[static_cast<size_t>(i)];
    const int32_t q = std::clamp(static_cast<int32_t>(std::lrint(value * inverse)), -kLimit, kLimit);
    whole_[static_cast<size_t>(token * stride_ + i)] = static_cast<int16_t>(q);
    lo[i] = static_cast<int8_t>(q & 127);
    hi[i] = static_cast<int8_t>((q - lo[i]) / 128);
    centre += int64_t{centres_[static_cast<size_t>(i)]} * q;
    magnitude += std::fabs(value);
    difference += std::fabs(value - scale * q);
    squares += value * value;
  }
  const double exact_kernel = gamma(static_cast<double>(cols_) / 16 + 5);
  const double scan = gamma(static_cast<double>(blocks_) + 4);
  const double rest = kMostSteps * (difference + exact_kernel * magnitude + scan * (magnitude + difference)) +
                      kMeanError * magnitude + scale;
  const auto place = static_cast<size_t>(token * blocks_ + block);
  offsets_[place] =
      -static_cast<int32_t>(std::lrint(static_cast<double>(centre) * double{RoundedHead::kCentreUnit}));
  const double of_random = kRandomShare * kRandom * squares,
               of_rest = kRestShare * static_cast<double>(blocks_) * rest * rest;
  weights_[place] = round_up_to_float(of_random + of_rest);
  fine_weights_[place] = round_up_to_float(of_random / 16 + of_rest);
}

}  // namespace bitnet
