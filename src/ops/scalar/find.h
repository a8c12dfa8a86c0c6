#pragma once

#include "ops/kernels.h"

namespace bitnet::ops::scalar {

/// make.template operator()<op>() for the one of `ops` that is wanted; null if none is.
template <class Kernel, Op... ops, class Make>
Kernel find(Op wanted, Make&& make) {
  Kernel kernel = nullptr;
  (void)((wanted == ops && (kernel = make.template operator()<ops>(), true)) || ...);
  return kernel;
}

/// One function per file, each null where the file has no such kernel.
[[nodiscard]] LoopKernel binary_kernel(Op op, DType dtype);
[[nodiscard]] LoopKernel unary_kernel(Op op, DType dtype);
[[nodiscard]] LoopKernel compare_kernel(Op op, DType dtype);
[[nodiscard]] ReduceKernel reduce_kernel(Op op, DType dtype);
[[nodiscard]] RowKernel row_kernel(Op op, DType dtype);
[[nodiscard]] ContractionKernel contraction_kernel(Op op, DType dtype);

}  // namespace bitnet::ops::scalar
