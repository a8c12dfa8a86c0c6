#pragma once

#include "bitnet/inference/session.h"
#include "terminal.h"

#include <span>
#include <string>

namespace bitnet::cli {

/// Shares of zeros in feed-forward blocks (LayerActivations), of all layers together.
struct ActivationShares {
  double closed_gates = 0, zero_inputs = 0;
};
[[nodiscard]] ActivationShares activation_shares(std::span<const LayerActivations> layers);

/// The same of what was computed after `before`, the counts at an earlier time.
[[nodiscard]] ActivationShares activation_shares_since(std::span<const LayerActivations> before,
                                                       std::span<const LayerActivations> layers);

/// {closed_gates, zero_inputs, layers: [{closed_gates, zero_inputs}]}
[[nodiscard]] Json activation_json(std::span<const LayerActivations> layers);
/// A line for each layer and one for all.
[[nodiscard]] std::string activation_text(std::span<const LayerActivations> layers);

}  // namespace bitnet::cli
