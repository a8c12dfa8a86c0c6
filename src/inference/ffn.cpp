#include "inference/ffn.h"

#include <algorithm>
#include <array>

namespace bitnet {

FeedForward::FeedForward(const ModelConfig& config, Executor executor, Projector& projector, int64_t batch)
    : config_(config),
      executor_(executor),
      projector_(projector),
      sparse_(config, executor, projector, batch),
      stride_(round_up(config.intermediate_size, 16)),
      gate_(scratch<float>(batch * stride_)),
      up_(scratch<float>(batch * stride_)) {}

void FeedForward::run(const Layer& layer, size_t index, int64_t tokens, Rows x, Rows out,
                      const Projector::RowStep& first) {
  if (layer.up.weight.layout() != TernaryLayout::kRows) return run_dense(layer, tokens, x, out, first);
  activations_.resize(std::max(activations_.size(), index + 1));
  run_sparse(layer, activations_[index], tokens, x, out, first);
}

void FeedForward::run_dense(const Layer& layer, int64_t tokens, Rows x, Rows out,
                            const Projector::RowStep& first) {
  projector_.project(std::array{Projector::Job{&layer.gate, gate()}, Projector::Job{&layer.up, up()}}, tokens,
                     x, layer.ffn_norm, first);
  const auto glu =
      config_.activation == Activation::kRelu2 ? executor_.table.glu_relu2 : executor_.table.glu_silu;
  const auto glu_row = [&](int64_t t) {
    glu({.gate = gate().row(t), .up = up().row(t), .h = gate().row(t), .count = config_.intermediate_size});
  };
  projector_.project(std::array{Projector::Job{&layer.down, out}}, tokens, gate(), layer.ffn_sub_norm,
                     glu_row);
}

void FeedForward::run_sparse(const Layer& layer, LayerActivations& counts, int64_t tokens, Rows x, Rows out,
                             const Projector::RowStep& first) {
  Int8Rows input = projector_.prepare(layer.gate, tokens, x, layer.ffn_norm, first);
  counts.gates += tokens * config_.intermediate_size;
  if (tokens == 1 && !config_.projection_norms) {
    counts.open_gates += sparse_.gate_up(layer.gate, layer.up, input, gate(), up());
  } else {
    projector_.multiply(std::array{Projector::Job{&layer.gate, gate()}}, tokens);
    if (config_.projection_norms) input = projector_.prepare(layer.up, tokens, x, layer.ffn_norm);
    counts.open_gates += sparse_.up(layer.up, tokens, input, gate(), up());
  }
  input = projector_.prepare(layer.down, tokens, up(), layer.ffn_sub_norm);
  counts.nonzero_inputs += sparse_.down(layer.down, tokens, input, out);
}

}  // namespace bitnet
