#pragma once

#include "bitnet/io/gguf.h"
#include "bitnet/model/checkpoint.h"
#include "model/tensor_output.h"

#include <optional>
#include <vector>

namespace bitnet {

/// Metadata of a model file, in one place for conversion and synthesis.
struct GgufModelMetadata {
  const ModelConfig& config;
  const std::optional<TokenizerSpec>& tokenizer;
  std::optional<int32_t> bos_token;
  std::vector<int32_t> stop_tokens;
  DType linear_type = DType::kI2_S;
};
void add_model_metadata(const GgufModelMetadata& metadata, GgufWriter& writer);

/// A whole model file, atomically.
OutputFindings write_gguf_model(const GgufModelMetadata& metadata, const std::vector<OutputTensor>& tensors,
                                const std::filesystem::path& output,
                                const std::function<void(int64_t done, int64_t total)>& progress);

/// The type of the linear layers and of embedding and head, checked against what GGUF holds.
[[nodiscard]] DType gguf_linear_type(std::optional<DType> chosen);
[[nodiscard]] DType gguf_embedding_type(std::optional<DType> chosen, DType otherwise);

/// Adds rope_freqs.weight to a plan if the model needs it.
void plan_rope_factors(const ModelConfig& config, std::vector<OutputTensor>& plan);

}  // namespace bitnet
