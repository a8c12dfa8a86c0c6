#pragma once

#include "bitnet/inference/session.h"
#include "inference/cuda_memory.h"
#include "inference/model_impl.h"

#include <memory>
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

/// A model's weights on one GPU, 2 bits resident; shared by all runners there.
struct CudaModel {
  int device = 0;
  std::vector<DeviceLayer> layers;
  DeviceBuffer
      step_layers;  ///< StepLayer for each; empty where a layer's matrices are not those of decode_step
  DeviceBuffer embedding_rows, head_rows, output_norm, inv_freq;  ///< head_rows empty if tied
  DenseRows embedding, head;
  DeviceBuffer int8_tiles, int8_bounds;  ///< of int8_head
  Int8Copy int8_head;
  int64_t bytes = 0;
};

/// Why the GPU kernels cannot run this model; empty if they can.
[[nodiscard]] std::string unsupported_reason(const Model::Impl& model);

/// The model on device `index`, uploaded unless another runner has it there: from the processor's weights if
/// they were made, else from the file, a layer at a time. Throws kOutOfMemory with what is needed and what is
/// free.
[[nodiscard]] std::shared_ptr<const CudaModel> model_on_device(const Model::Impl& model, int index,
                                                               const SessionOptions& options);

}  // namespace bitnet::cuda
