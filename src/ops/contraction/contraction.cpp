#include "bitnet/ops/contraction.h"

#include "bitnet/core/error.h"
#include "bitnet/ops/convert.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/copy.h"
#include "ops/dispatch.h"

#include <fmt/format.h>

namespace bitnet {

Tensor matmul(const Tensor& a, const Tensor& b, std::optional<DType> dtype) {
  if (!dtype) return ops::dispatch(Op::kMatmul, {&a, &b});
  const Tensor left = to_dtype(a, *dtype), right = to_dtype(b, *dtype);
  return ops::dispatch(Op::kMatmul, {&left, &right});
}

Tensor dot(const Tensor& a, const Tensor& b) {
  if (a.ndim() != 1 || b.ndim() != 1) {
    throw Error(ErrorCode::kShapeMismatch, fmt::format("dot: needs two vectors, found {} and {}",
                                                       to_string(a.shape()), to_string(b.shape())));
  }
  return matmul(a, b);
}

Tensor outer(const Tensor& a, const Tensor& b) {
  return mul(contiguous(a).reshape({-1, 1}), contiguous(b).reshape({1, -1}));
}

Tensor conv1d(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv1dOptions& options) {
  OpParams params;
  params.stride[1] = options.stride;
  params.padding[1] = options.padding;
  params.dilation[1] = options.dilation;
  params.groups = options.groups;
  return ops::dispatch(Op::kConv1d, {&x, &w, &bias}, params);
}

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2dOptions& options) {
  OpParams params;
  params.stride = options.stride;
  params.padding = options.padding;
  params.dilation = options.dilation;
  params.groups = options.groups;
  return ops::dispatch(Op::kConv2d, {&x, &w, &bias}, params);
}

}  // namespace bitnet
