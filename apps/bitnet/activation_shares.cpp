#include "activation_shares.h"

#include <vector>

#include <fmt/format.h>

namespace bitnet::cli {

ActivationShares activation_shares(std::span<const LayerActivations> layers) {
  LayerActivations all;
  for (const LayerActivations& layer : layers) {
    all.gates += layer.gates;
    all.open_gates += layer.open_gates;
    all.nonzero_inputs += layer.nonzero_inputs;
  }
  if (all.gates == 0) return {};
  const auto gates = static_cast<double>(all.gates);
  return {1.0 - static_cast<double>(all.open_gates) / gates,
          1.0 - static_cast<double>(all.nonzero_inputs) / gates};
}

ActivationShares activation_shares_since(std::span<const LayerActivations> before,
                                         std::span<const LayerActivations> layers) {
  std::vector<LayerActivations> since(layers.begin(), layers.end());
  for (size_t i = 0; i < before.size(); ++i) {
    since[i].gates -= before[i].gates;
    since[i].open_gates -= before[i].open_gates;
    since[i].nonzero_inputs -= before[i].nonzero_inputs;
  }
  return activation_shares(since);
}

Json activation_json(std::span<const LayerActivations> layers) {
  const auto row = [](std::span<const LayerActivations> part) -> Json {
    const ActivationShares shares = activation_shares(part);
    return {{"closed_gates", shares.closed_gates}, {"zero_inputs", shares.zero_inputs}};
  };
  Json json = row(layers);
  json["layers"] = Json::array();
  for (size_t i = 0; i < layers.size(); ++i) json["layers"].push_back(row(layers.subspan(i, 1)));
  return json;
}

std::string activation_text(std::span<const LayerActivations> layers) {
  std::string text = fmt::format("{:<8} {:>14} {:>20}\n", "layer", "closed gates", "zero inputs of down");
  const auto line = [&](const std::string& name, std::span<const LayerActivations> part) {
    const ActivationShares shares = activation_shares(part);
    text += fmt::format("{:<8} {:>12.1f} % {:>18.1f} %\n", name, shares.closed_gates * 100,
                        shares.zero_inputs * 100);
  };
  for (size_t i = 0; i < layers.size(); ++i) line(std::to_string(i), layers.subspan(i, 1));
  line("all", layers);
  return text;
}

}  // namespace bitnet::cli
