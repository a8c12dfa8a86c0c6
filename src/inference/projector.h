#pragma once

#include "bitnet/model/config.h"
#include "inference/executor.h"
#include "inference/model_impl.h"

#include <span>

namespace bitnet {

/// f32 rows, `stride` floats apart.
struct Rows {
  float* data;
  int64_t stride;
  [[nodiscard]] float* row(int64_t index) const { return data + index * stride; }
};

/// The linear layers of a forward pass: y = W quantize(norm(x)) (docs/NUMERICS.md).
class Projector {
 public:
  Projector(const ModelConfig& config, Executor executor, int64_t batch);

  struct Job {
    const Linear* linear;
    Rows y;
  };
  /// Several layers that read the same x [tokens, cols], after an RMSNorm with `norm_weight` [cols] and the
  /// model's rms_norm_eps unless that is empty.
  void project(std::span<const Job> jobs, int64_t tokens, Rows x, std::span<const float> norm_weight);

 private:
  void quantize(int64_t tokens, int64_t cols, Rows x, std::span<const float> norm_weight, float eps);
  void multiply(std::span<const Job> jobs, int64_t tokens);

  const ModelConfig& config_;
  Executor executor_;
  int64_t normed_stride_, q8_stride_;
  AlignedBuffer normed_, q8_, q8_scale_, q8_sum_;
};

}  // namespace bitnet
