#pragma once

#include "ops/kernels.h"

namespace bitnet::ops::simd {

/// Null where there is no such kernel. Strides are 0 or 1, the result's is 1.
[[nodiscard]] LoopKernel arithmetic_kernel(Op op, DType dtype);
[[nodiscard]] LoopKernel function_kernel(Op op, DType dtype);
[[nodiscard]] ReduceKernel reduce_kernel(Op op, DType dtype);
[[nodiscard]] RowKernel row_kernel(Op op, DType dtype);
[[nodiscard]] LoopKernel convert_kernel(DType from, DType to);
[[nodiscard]] double multiply_adds_per_second();

}  // namespace bitnet::ops::simd
