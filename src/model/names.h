#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/model/config.h"

#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

enum class TensorKind { kNorm, kEmbedding, kLinear };

/// One tensor that a model of some configuration must have.
struct TensorRole {
  std::string name;  ///< canonical: GGUF's
  TensorKind kind = TensorKind::kLinear;
  Shape shape;
  /// Rows come in heads and are rotated: GGUF files of arch "llama" hold them in another order.
  bool rotary = false;
};

/// Every tensor of the model, in model order: embedding, layers, final norm, head if it is not tied.
[[nodiscard]] std::vector<TensorRole> tensor_roles(const ModelConfig& config);

/// Canonical name of a layer's tensor: "blk.3.attn_q.weight" from (3, "attn_q").
[[nodiscard]] std::string layer_tensor(int64_t layer, std::string_view part);

/// Names under which Hugging Face folders hold a tensor, the one that we write first. 1bitLLM's models call
/// the sub-norms inner_attn_ln and ffn_layernorm; projection norms are .rms_norm (transformers) or .norm.
[[nodiscard]] std::vector<std::string> hf_tensor_names(std::string_view canonical);

}  // namespace bitnet
