#pragma once

#include "inference/cuda_cache.h"
#include "inference/cuda_forward.h"
#include "inference/cuda_model.h"

namespace bitnet::cuda {

/// One new token of one sequence through all layers in one kernel, where the GPU and the model's shape allow
/// it.
class CudaStep {
 public:
  CudaStep(const ModelConfig& config, const CudaModel& model, const Scratch& scratch, DType kv_type,
           int64_t context);

  [[nodiscard]] bool runs() const { return runs_; }
  /// Embedding and layers; the result is row 0 of scratch.x. `id` lies on the device.
  void run(const int32_t* id, int64_t position, const CudaCache& cache, Stream stream);
  void run(int32_t id, int64_t position, const CudaCache& cache, Stream stream);
  [[nodiscard]] int64_t bytes() const { return static_cast<int64_t>(exchange_.bytes()); }

 private:
  void run(const EmbedArgs& embed, int64_t position, const CudaCache& cache, Stream stream);

  const CudaModel& model_;
  StepArgs args_;
  bool runs_;
  DeviceBuffer exchange_;
};

}  // namespace bitnet::cuda
