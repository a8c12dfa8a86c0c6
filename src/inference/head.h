#pragma once

#include "inference/projector.h"

#include <span>

namespace bitnet {

/// The final norm and the vocabulary's logits.
class Head {
 public:
  Head(const Model::Impl& model, Executor executor);

  /// out[i] = logits of the hidden state x.row(tokens[i]), [tokens.size(), vocab_size] row-major; at most
  /// kMaxTokens.
  void logits(Rows x, std::span<const int64_t> tokens, std::span<float> out);

  /// Tokens whose logits are computed together: the head's rows are decoded once for all of them, and 16 x
  /// 128256 floats are 8 MB.
  static constexpr int64_t kMaxTokens = 16;

 private:
  const Model::Impl& model_;
  Executor executor_;
  int64_t stride_;
  AlignedBuffer normed_;
};

}  // namespace bitnet
