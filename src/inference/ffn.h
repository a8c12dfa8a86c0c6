#pragma once

#include "inference/projector.h"

namespace bitnet {

/// The feed-forward block: down(sub_norm(act(gate(x)) * up(x))) of the normed input.
class FeedForward {
 public:
  FeedForward(const ModelConfig& config, Executor executor, Projector& projector, int64_t batch);

  /// out = block(norm(x)); both [tokens, hidden_size], not the same memory. The residual sum is the caller's.
  void run(const Layer& layer, int64_t tokens, Rows x, Rows out);

 private:
  const ModelConfig& config_;
  Executor executor_;
  Projector& projector_;
  int64_t stride_;
  AlignedBuffer gate_, up_;
};

}  // namespace bitnet
