#pragma once

#include "bitnet/model/config.h"

#include <cstdint>
#include <string_view>

namespace bitnet {

/// How random weights of a squared-ReLU model come to close a wanted share of the gates.
///
/// The first channels() channels of the hidden state are a constant: every embedding row holds embedding()
/// there, and the layers add nothing (the rows of attn_output and ffn_down are zero). attn_norm ignores them;
/// ffn_norm gives them the value v, by a weight that undoes the growth of the residual stream, whose mean
/// square is that of the embedding and 1 for each block added. Every row of ffn_gate has the trit -1 for
/// them, so that its output, of which the other channels make a normal variable of deviation sqrt(2/3 (hidden
/// - channels)) trits, is shifted by -v channels: v = probit(share) * that deviation / channels.
class ClosedGates {
 public:
  /// Throws kInvalidArgument if the share is not inside (0, 1) or the model has no squared ReLU or no
  /// sub-norms (which keep the growth of the residual stream known).
  ClosedGates(const ModelConfig& config, double share);

  [[nodiscard]] int64_t channels() const { return channels_; }
  [[nodiscard]] float embedding() const { return embedding_; }
  /// The weight of the constant channels in a layer's ffn_norm.
  [[nodiscard]] float ffn_norm(int64_t layer) const;
  /// Deviation of ln(weight) in ffn_sub_norm: it widens the distribution of what is quantized, so that as
  /// many of ffn_down's int8 inputs are zero as in storyteller (81.9 %, where 66.8 % of the gates are
  /// closed).
  static constexpr double kSubNormSpread = 0.58;

 private:
  int64_t channels_, hidden_;
  float embedding_;
  double value_;  ///< v
};

/// Deviation of a synthetic embedding's elements: logits of a normalized state then have a deviation of 2.
[[nodiscard]] double synth_embedding_deviation(const ModelConfig& config);

}  // namespace bitnet
