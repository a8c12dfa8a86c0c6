#include "inference/ffn.h"

#include <array>

namespace bitnet {

FeedForward::FeedForward(const ModelConfig& config, Executor executor, Projector& projector, int64_t batch)
    : config_(config),
      executor_(executor),
      projector_(projector),
      stride_(round_up(config.intermediate_size, 16)),
      gate_(scratch<float>(batch * stride_)),
      up_(scratch<float>(batch * stride_)) {}

void FeedForward::run(const Layer& layer, int64_t tokens, Rows x, Rows out) {
  const Rows gate{gate_.as<float>(), stride_}, up{up_.as<float>(), stride_};
  projector_.project(std::array{Projector::Job{&layer.gate, gate}, Projector::Job{&layer.up, up}}, tokens, x,
                     layer.ffn_norm);
  const auto glu =
      config_.activation == Activation::kRelu2 ? executor_.table.glu_relu2 : executor_.table.glu_silu;
  executor_.for_tokens(tokens, [&](int64_t t) {
    glu({.gate = gate.row(t), .up = up.row(t), .h = gate.row(t), .count = config_.intermediate_size});
  });
  projector_.project(std::array{Projector::Job{&layer.down, out}}, tokens, gate, layer.ffn_sub_norm);
}

}  // namespace bitnet
