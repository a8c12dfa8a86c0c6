#pragma once

#include "bitnet/kernels/measure.h"

#include <string_view>
#include <vector>

namespace bitnet {

/// What a GPU can do at most, measured: reading its memory, and int8 products of the tensor cores on
/// registers and shared memory (an operation is a multiplication or an addition).
struct CudaBound {
  double read_bytes_per_second = 0;
  double int8_operations_per_second = 0;
};

/// `device`: "cuda", "cuda:N", or "auto" for GPU 0; of several GPUs the first. Medians. Throws kUnsupported
/// where there is no such GPU.
[[nodiscard]] CudaBound measure_cuda_bound(std::string_view device = "cuda");

/// Times the GPU's ternary products at the model's matrices and at some of other models (3200 x 3200, 3200 x
/// 8640, 4096 x 14336), as calls in a graph, with weights that come from memory: copies take turns until
/// shapes.cold_bytes have passed. One token: norm and rounding included. `bytes` are those of the weights.
/// Each result is compared with the naive kernel's first: kInternal if one bit differs.
[[nodiscard]] std::vector<KernelSpeed> measure_cuda_kernels(const KernelShapes& shapes,
                                                            std::string_view device = "cuda");

/// Times how several GPUs ("cuda:0,1") make hidden states and gates whole that each has a part of, as calls
/// in a graph: through each other's memory ("exchange peers") and through NCCL ("exchange nccl"), where they
/// can (the log says why not). `bytes` are those that a GPU receives. Results are checked first: kInternal if
/// one element is wrong.
[[nodiscard]] std::vector<KernelSpeed> measure_cuda_exchanges(const KernelShapes& shapes,
                                                              std::string_view device);

}  // namespace bitnet
