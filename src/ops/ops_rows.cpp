// Reductions, and operations along rows and by index.
#include "bitnet/core/error.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/copy.h"
#include "ops/dispatch.h"
#include "tensor/layout.h"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

using ops::dispatch;

Tensor reduced(Op op, const Tensor& x, AxisList axes, bool keepdims) {
  return reduce(op, x, {axes.begin(), axes.size()}, keepdims);
}

Tensor spread(Op op, const Tensor& x, AxisList axes, double ddof, bool keepdims) {
  OpParams params = ops::reduction_params(x, {axes.begin(), axes.size()}, keepdims, op_info(op).name);
  params.ddof = ddof;
  return dispatch(op, {&x}, params);
}

Tensor index_of(Op op, const Tensor& x, AxisList axis, bool keepdims) {
  if (axis.size() > 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} works along one axis, found {}", op_info(op).name, axis.size()),
                "flatten those axes first");
  }
  return reduced(op, x, axis, keepdims);
}

[[noreturn]] void throw_shape(Op op, const Tensor& x, std::string message) {
  const auto shape = x.shape();
  throw Error(
      Error(ErrorCode::kShapeMismatch, std::move(message))
          .with_operation(std::string(op_info(op).name), {{x.dtype(), {shape.begin(), shape.end()}}}));
}

/// The operation along the last axis, on views that bring `axis` there.
Tensor along(Op op, int axis, const Tensor& a, const Tensor* b = nullptr) {
  const int ndim = a.ndim();
  if (!a.defined() || ndim == 0) return b == nullptr ? dispatch(op, {&a}) : dispatch(op, {&a, b});
  const int normal = normalize_axis(axis, ndim, op_info(op).name);
  if (normal == ndim - 1) return b == nullptr ? dispatch(op, {&a}) : dispatch(op, {&a, b});
  const Tensor x = a.transpose(normal, -1);
  if (b == nullptr) return dispatch(op, {&x}).transpose(normal, -1);
  if (b->ndim() != ndim) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("{}: operands of the shapes {} and {}", op_info(op).name, to_string(a.shape()),
                            to_string(b->shape())));
  }
  const Tensor y = b->transpose(normal, -1);
  return dispatch(op, {&x, &y}).transpose(normal, -1);
}

}  // namespace

Tensor reduce(Op op, const Tensor& x, std::span<const int> axes, bool keepdims) {
  if (op_info(op).family != OpFamily::kReduction) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is not a reduction", op_info(op).name));
  }
  return dispatch(op, {&x}, ops::reduction_params(x, axes, keepdims, op_info(op).name));
}

Tensor sum(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kSum, x, axes, keepdims);
}
Tensor mean(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kMean, x, axes, keepdims);
}
Tensor prod(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kProd, x, axes, keepdims);
}
Tensor min(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kMin, x, axes, keepdims);
}
Tensor max(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kMax, x, axes, keepdims);
}
Tensor median(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kMedian, x, axes, keepdims);
}
Tensor count_nonzero(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kCountNonzero, x, axes, keepdims);
}
Tensor any(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kAny, x, axes, keepdims);
}
Tensor all(const Tensor& x, AxisList axes, bool keepdims) {
  return reduced(Op::kAll, x, axes, keepdims);
}

Tensor argmin(const Tensor& x, AxisList axis, bool keepdims) {
  return index_of(Op::kArgmin, x, axis, keepdims);
}
Tensor argmax(const Tensor& x, AxisList axis, bool keepdims) {
  return index_of(Op::kArgmax, x, axis, keepdims);
}
Tensor var(const Tensor& x, AxisList axes, double ddof, bool keepdims) {
  return spread(Op::kVar, x, axes, ddof, keepdims);
}
Tensor stddev(const Tensor& x, AxisList axes, double ddof, bool keepdims) {
  return spread(Op::kStd, x, axes, ddof, keepdims);
}

Tensor quantile(const Tensor& x, double q, AxisList axes, bool keepdims) {
  if (!(q >= 0 && q <= 1)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("quantile: q must lie in [0, 1], found {}", q));
  }
  OpParams params = ops::reduction_params(x, {axes.begin(), axes.size()}, keepdims, "quantile");
  params.quantile = q;
  return dispatch(Op::kQuantile, {&x}, params);
}

Tensor softmax(const Tensor& x, int axis) {
  return along(Op::kSoftmax, axis, x);
}
Tensor log_softmax(const Tensor& x, int axis) {
  return along(Op::kLogSoftmax, axis, x);
}
Tensor softmax_backward(const Tensor& g, const Tensor& y, int axis) {
  return along(Op::kSoftmaxBackward, axis, g, &y);
}
Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int axis) {
  return along(Op::kLogSoftmaxBackward, axis, g, &y);
}

Tensor layer_norm(const Tensor& x, std::span<const int64_t> normalized_shape, const Tensor& weight,
                  const Tensor& bias, double eps) {
  const size_t axes = normalized_shape.size();
  const auto ends_so = [&](const Tensor& t) { return std::ranges::equal(t.shape(), normalized_shape); };
  const auto shape = x.shape();
  if (axes == 0 || axes > shape.size() || !std::ranges::equal(shape.last(axes), normalized_shape) ||
      (weight.defined() && !ends_so(weight)) || (bias.defined() && !ends_so(bias))) {
    throw_shape(
        Op::kLayerNorm, x,
        fmt::format("layer_norm: the normalized shape {} must end the input's {} and be the weight's {} and "
                    "the bias's {}",
                    to_string(normalized_shape), to_string(shape), to_string(weight.shape()),
                    to_string(bias.shape())));
  }
  OpParams params;
  params.eps = eps;
  if (axes == 1) return dispatch(Op::kLayerNorm, {&x, &weight, &bias}, params);
  Shape rows(shape.begin(), shape.end() - static_cast<int64_t>(axes));
  rows.push_back(element_count(normalized_shape));
  const Tensor flat = contiguous(x).reshape(rows);
  const Tensor flat_weight = weight.defined() ? contiguous(weight).flatten() : weight;
  const Tensor flat_bias = bias.defined() ? contiguous(bias).flatten() : bias;
  return dispatch(Op::kLayerNorm, {&flat, &flat_weight, &flat_bias}, params).reshape(shape);
}
Tensor layer_norm(const Tensor& x, std::initializer_list<int64_t> normalized_shape, const Tensor& weight,
                  const Tensor& bias, double eps) {
  return layer_norm(x, std::span<const int64_t>(normalized_shape.begin(), normalized_shape.size()), weight,
                    bias, eps);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  OpParams params;
  params.eps = eps;
  return dispatch(Op::kRmsNorm, {&x, &weight}, params);
}

RmsNormGradients rms_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight, double eps) {
  OpParams params;
  params.eps = eps;
  RmsNormGradients gradients;
  gradients.x = dispatch(Op::kRmsNormBackward, {&g, &x, &weight}, params);
  if (!weight.defined()) return gradients;
  const Tensor products = mul(g, rms_norm(x, {}, eps));
  std::vector<int> rows;
  for (int axis = 0; axis + 1 < x.ndim(); ++axis) rows.push_back(axis);
  gradients.weight = rows.empty() ? products : reduce(Op::kSum, products, rows);
  return gradients;
}

Tensor rope(const Tensor& x, const RopeOptions& options) {
  if (x.ndim() == 0 || x.shape().back() % 2 != 0) {
    throw_shape(Op::kRope, x,
                fmt::format("rope: the last axis must have an even size, found {}", to_string(x.shape())));
  }
  OpParams params;
  params.theta = options.theta;
  params.position = options.position;
  params.interleaved = options.interleaved;
  params.inverse = options.inverse;
  params.length = x.ndim() < 2 ? 1 : std::max<int64_t>(1, x.size(-2));
  return dispatch(Op::kRope, {&x}, params);
}

Tensor embedding(const Tensor& table, const Tensor& indices) {
  return dispatch(Op::kEmbedding, {&table, &indices});
}

}  // namespace bitnet
