#pragma once

#include "bitnet/ops/context.h"
#include "ops/contraction/geometry.h"

namespace bitnet::ops {

/// Row-major arrays of a convolution; bias may be null.
template <class Real>
struct ConvolutionData {
  const Real* x = nullptr;
  const Real* w = nullptr;
  const Real* bias = nullptr;
  Real* y = nullptr;
};

/// As products: the inputs that each output position reads become a column ("im2col"), some positions at a
/// time; how many does not depend on the threads.
template <class Real>
void convolve(const Convolution& conv, const ConvolutionData<Real>& data, const ExecutionContext& context);

/// Bytes of one thread's columns.
[[nodiscard]] int64_t column_bytes(const Convolution& conv, int64_t element_bytes);

}  // namespace bitnet::ops
