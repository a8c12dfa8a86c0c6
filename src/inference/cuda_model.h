#pragma once

#include "bitnet/inference/session.h"
#include "inference/cuda_memory.h"
#include "inference/model_impl.h"
#include "inference/share.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace bitnet::cuda {

/// A linear layer, or several that read the same input, on the GPU.
struct DeviceLinear {
  DeviceBuffer tiles, row_scales, norm_in;  ///< norm_in: padded, or empty
  TernaryWeights weights;
};

/// A layer. With projection norms every projection has its own input and stands alone; otherwise q, k and v
/// are one matrix, and gate and up a paired one.
struct DeviceLayer {
  DeviceBuffer attn_norm, attn_sub_norm, ffn_norm, ffn_sub_norm;  ///< padded; sub norms may be empty
  std::vector<DeviceLinear> qkv;                                  ///< one, or q, k, v
  DeviceLinear attn_output;
  std::vector<DeviceLinear> gate_up;  ///< one, or gate, up
  DeviceLinear down;
};

/// A model's weights on one GPU, 2 bits resident, or one GPU's share of them; used by all runners there.
struct CudaModel {
  int device = 0;
  Share share;
  ShareRows rows;      ///< that the matrices have here, and the head
  ModelConfig config;  ///< config_of(the model's, share)
  std::vector<DeviceLayer> layers;
  DeviceBuffer
      step_layers;  ///< StepLayer for each; empty where a layer's matrices are not those of decode_step
  /// head_rows is empty if tied. Of a share, the embedding is not here: it stays in host memory.
  DeviceBuffer embedding_rows, head_rows, output_norm, inv_freq;
  DenseRows embedding, head;
  DeviceBuffer int8_tiles, int8_bounds;  ///< of int8_head
  Int8Copy int8_head;
  int64_t bytes = 0;
};

/// Why the GPU kernels cannot run this model; empty if they can.
[[nodiscard]] std::string unsupported_reason(const Model::Impl& model);

/// Bytes between rows of a dense matrix on the GPU.
[[nodiscard]] int64_t aligned_row(const DenseMatrix& matrix);

/// The model, or a share of it, on device `index`, uploaded unless another runner has it there: from the
/// processor's weights if they were made, else from the file, a layer at a time. Throws kOutOfMemory with
/// what is needed and what is free.
[[nodiscard]] std::shared_ptr<const CudaModel> model_on_device(const Model::Impl& model, int index,
                                                               const SessionOptions& options,
                                                               Share share = {});
/// The same for several shares, for which each layer is read once.
[[nodiscard]] std::vector<std::shared_ptr<const CudaModel>> models_on_devices(
    const Model::Impl& model, std::span<const SharePlace> places, const SessionOptions& options);

}  // namespace bitnet::cuda
