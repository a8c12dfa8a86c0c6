#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/core/memory.h"
#include "bitnet/inference/model.h"
#include "bitnet/model/checkpoint.h"
#include "bitnet/quant/packed_ternary.h"
#include "inference/dense_matrix.h"
#include "inference/rounded_head.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace bitnet {

/// One linear layer, with the RMSNorm of its own input where the model has one (use_rms_norm).
struct Linear {
  PackedTernary weight;
  std::vector<float> norm_in;  ///< [cols] or empty
  float max_row_scale = 0;
};

struct Layer {
  std::vector<float> attn_norm, attn_sub_norm, ffn_norm, ffn_sub_norm;  ///< sub norms may be empty
  Linear q, k, v, attn_output, gate, up, down;
};

namespace cuda {
struct CudaModel;
}

/// Copies of a model's weights on devices, while a runner uses them.
struct DeviceCopies {
  std::mutex mutex;
  std::map<int, std::weak_ptr<const cuda::CudaModel>> cuda;  ///< by device
};

struct Model::Impl {
  explicit Impl(Checkpoint opened) : checkpoint(std::move(opened)) {}

  Checkpoint checkpoint;  ///< keeps the mapping of embedding and head alive
  std::unique_ptr<Tokenizer> tokenizer;
  ChatTemplate chat_template = ChatTemplate::kNone;
  Arena linear_weights{0};  ///< of all layers
  std::vector<Layer> layers;
  std::vector<float> output_norm;
  DenseMatrix embedding, head;
  std::optional<RoundedHead> rounded_head;  ///< to find the highest logits with
  std::vector<float> inv_freq;              ///< RoPE, [head_dim / 2]
  int64_t weight_bytes = 0;
  mutable DeviceCopies device_copies;

  [[nodiscard]] int64_t head_copy_bytes() const { return rounded_head ? rounded_head->bytes() : 0; }
};

/// inv_freq[i] = theta^(-2i/d), scaled as the config says, rounded to f32 as the reference implementation
/// does.
[[nodiscard]] std::vector<float> rope_inv_freq(const ModelConfig& config);
/// cos and sin of position * inv_freq[i], the angle rounded to f32 first.
void rope_angles(std::span<const float> inv_freq, float position, float* cos, float* sin);

}  // namespace bitnet
