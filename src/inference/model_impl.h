#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/inference/model.h"
#include "bitnet/model/checkpoint.h"
#include "inference/dense_matrix.h"
#include "inference/host_weights.h"
#include "inference/share.h"

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace bitnet {

namespace cuda {
struct CudaModel;
}

/// Copies of a model's weights on devices, while a runner uses them.
struct DeviceCopies {
  std::mutex mutex;
  /// By device and share.
  std::map<cuda::SharePlace, std::weak_ptr<const cuda::CudaModel>> cuda;
};

struct Model::Impl {
  explicit Impl(Checkpoint opened) : checkpoint(std::move(opened)) {}

  Checkpoint checkpoint;  ///< keeps the mapping of embedding and head alive
  std::unique_ptr<Tokenizer> tokenizer;
  ChatTemplate chat_template = ChatTemplate::kNone;
  std::vector<float> output_norm;
  DenseMatrix embedding, head;
  std::vector<float> inv_freq;  ///< RoPE, [head_dim / 2]
  LoadOptions options;          ///< of load(), without its progress
  mutable DeviceCopies device_copies;
  mutable std::mutex host_mutex;
  mutable std::unique_ptr<const HostWeights> host_weights;

  /// The processor's weights, made at the first call. Throws as Model::load does.
  [[nodiscard]] const HostWeights& host(const OnProgress& progress = {}) const;
  [[nodiscard]] const HostWeights* host_if_made() const;
  /// Of all linear layers in TernaryLayout::kBlocks.
  [[nodiscard]] int64_t blocks_bytes() const;
};

/// inv_freq[i] = theta^(-2i/d), scaled as the config says, rounded to f32 as the reference implementation
/// does.
[[nodiscard]] std::vector<float> rope_inv_freq(const ModelConfig& config);
/// cos and sin of position * inv_freq[i], the angle rounded to f32 first.
void rope_angles(std::span<const float> inv_freq, float position, float* cos, float* sin);

}  // namespace bitnet
