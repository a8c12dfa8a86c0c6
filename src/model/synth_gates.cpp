#include "model/synth_gates.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// The x below which a standard normal variable lies with probability p, by bisection.
double probit(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 100; ++i) {
    const double x = (low + high) / 2;
    (std::erfc(-x / std::sqrt(2.0)) / 2 < p ? low : high) = x;
  }
  return low;
}

}  // namespace

double synth_embedding_deviation(const ModelConfig& config) {
  return 2.0 / std::sqrt(static_cast<double>(config.hidden_size));
}

ClosedGates::ClosedGates(const ModelConfig& config, double share)
    : channels_(std::clamp<int64_t>(config.hidden_size / 8, 1, 32)),
      hidden_(config.hidden_size),
      embedding_(static_cast<float>(synth_embedding_deviation(config))) {
  if (!(share > 0 && share < 1)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a share of {} closed gates", share),
                "give a number between 0 and 1");
  }
  if (config.activation != Activation::kRelu2 || !config.sub_norms) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the gates of a '{}' model do not close", config.architecture),
                "only models with squared ReLU and sub-norms have such gates: bitnet-b1.58");
  }
  const auto others = static_cast<double>(hidden_ - channels_);
  value_ = probit(share) * std::sqrt(others * 2 / 3) / static_cast<double>(channels_);
}

float ClosedGates::ffn_norm(int64_t layer) const {
  const double constant = static_cast<double>(embedding_);
  const double added = static_cast<double>(2 * layer + 1) * static_cast<double>(hidden_ - channels_) /
                       static_cast<double>(hidden_);
  return static_cast<float>(value_ * std::sqrt(constant * constant + added) / constant);
}

}  // namespace bitnet
