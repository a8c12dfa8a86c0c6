#pragma once

#include "bitnet/inference/session.h"
#include "inference/projector.h"
#include "inference/sparse_products.h"

#include <vector>

namespace bitnet {

/// The feed-forward block: down(sub_norm(act(gate(x)) * up(x))) of the normed input.
class FeedForward {
 public:
  FeedForward(const ModelConfig& config, Executor executor, Projector& projector, int64_t batch);

  /// out = block(norm(x)) of layer `index`; both [tokens, hidden_size], not the same memory. `first`
  /// completes the rows of x. The residual sum is the caller's.
  void run(const Layer& layer, size_t index, int64_t tokens, Rows x, Rows out,
           const Projector::RowStep& first);
  /// Of each layer, added up over all tokens so far; empty if nothing was skipped or could be.
  [[nodiscard]] const std::vector<LayerActivations>& activations() const { return activations_; }

 private:
  void run_dense(const Layer& layer, int64_t tokens, Rows x, Rows out, const Projector::RowStep& first);
  void run_sparse(const Layer& layer, LayerActivations& counts, int64_t tokens, Rows x, Rows out,
                  const Projector::RowStep& first);
  [[nodiscard]] Rows gate() { return {gate_.as<float>(), stride_}; }
  [[nodiscard]] Rows up() { return {up_.as<float>(), stride_}; }

  const ModelConfig& config_;
  Executor executor_;
  Projector& projector_;
  SparseProducts sparse_;
  int64_t stride_;
  AlignedBuffer gate_, up_;
  std::vector<LayerActivations> activations_;
};

}  // namespace bitnet
