#pragma once

#include "bitnet/ops/backend.h"

#include <memory>

namespace bitnet::ops {

/// Elementwise functions, sums, means, extremes and matrix products of f32, f16 and bf16 on one GPU: a first
/// version. Named "cuda" (the first GPU) or "cuda:N". Work is queued on the GPU's stream (gpu_stream.h);
/// run() does not wait.
[[nodiscard]] std::unique_ptr<const Backend> make_gpu_backend(Device device);

}  // namespace bitnet::ops
