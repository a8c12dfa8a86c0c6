#include "ops/contraction/geometry.h"

#include "bitnet/core/error.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet::ops {
namespace {

/// Leading axes of [.., M, K]; a vector has none.
std::span<const int64_t> leading(std::span<const int64_t> shape) {
  return shape.first(shape.size() < 2 ? 0 : shape.size() - 2);
}

/// The strides of [.., rows, columns], of which the last leading axis meets the last of `batch`.
MatmulBatch::Side side_of(const Tensor& tensor, const MatmulBatch& batch) {
  const auto shape = tensor.shape(), strides = tensor.strides();
  MatmulBatch::Side side;
  side.row_stride = strides[shape.size() - 2];
  side.column_stride = strides[shape.size() - 1];
  const size_t own = shape.size() - 2, missing = static_cast<size_t>(batch.axes) - own;
  for (size_t axis = 0; axis < own; ++axis) {
    side.strides[missing + axis] = shape[axis] == 1 ? 0 : strides[axis];
  }
  return side;
}

[[noreturn]] void wrong_shape(const OpCall& call, std::string_view wanted) {
  throw Error(ErrorCode::kShapeMismatch,
              fmt::format("{}: {}, found x {}, w {}, bias {}", call.info->name, wanted,
                          to_string(call.inputs[0].shape()), to_string(call.inputs[1].shape()),
                          call.inputs[2].defined() ? to_string(call.inputs[2].shape()) : "none"));
}

[[noreturn]] void wrong_option(const OpCall& call, std::string_view name, int64_t least, int64_t found) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: {} must be at least {}, found {}", call.info->name, name, least, found));
}

/// Positions along one axis: floor((input + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
int64_t output_size(const OpCall& call, const Convolution& conv, size_t axis) {
  constexpr int64_t kMost = int64_t{1} << 31;  // keeps the products below within 64 bits
  const auto check = [&](std::string_view name, int64_t value, int64_t least) {
    if (value < least || value > kMost) wrong_option(call, name, least, value);
  };
  check("the stride", conv.stride[axis], 1);
  check("the padding", conv.padding[axis], 0);
  check("the dilation", conv.dilation[axis], 1);
  check("the kernel's size", conv.kernel[axis], 1);
  const int64_t room =
      conv.input[axis] + 2 * conv.padding[axis] - (conv.dilation[axis] * (conv.kernel[axis] - 1) + 1);
  if (room < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a kernel of {} with dilation {} is larger than the padded input of {}",
                            call.info->name, conv.kernel[axis], conv.dilation[axis],
                            conv.input[axis] + 2 * conv.padding[axis]));
  }
  return room / conv.stride[axis] + 1;
}

}  // namespace

Shape matmul_shape(std::span<const int64_t> a, std::span<const int64_t> b) {
  if (a.empty() || b.empty()) {
    throw Error(ErrorCode::kShapeMismatch, "matmul: operands need an axis, found a scalar",
                "multiply by a scalar with mul");
  }
  const int64_t depth = b.size() == 1 ? b[0] : b[b.size() - 2];
  if (a.back() != depth) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("matmul: {} by {}: rows of {} elements meet columns of {}", to_string(a),
                            to_string(b), a.back(), depth));
  }
  Shape shape = broadcast_shapes(leading(a), leading(b));
  if (a.size() > 1) shape.push_back(a[a.size() - 2]);
  if (b.size() > 1) shape.push_back(b.back());
  return shape;
}

int64_t MatmulBatch::offset(const Side& side, int64_t index) const {
  int64_t result = 0;
  for (auto axis = static_cast<size_t>(axes); axis-- > 0; index /= shape[axis]) {
    result += index % shape[axis] * side.strides[axis];
  }
  return result;
}

MatmulBatch matmul_batch(const OpCall& call) {
  const Tensor a = call.inputs[0].ndim() == 1 ? call.inputs[0].unsqueeze(0) : call.inputs[0];
  const Tensor b = call.inputs[1].ndim() == 1 ? call.inputs[1].unsqueeze(1) : call.inputs[1];
  MatmulBatch batch;
  batch.rows = a.size(-2);
  batch.depth = a.size(-1);
  batch.columns = b.size(-1);
  // One matrix b for all rows: [.., M, K] by [K, N] is one product.
  if (b.ndim() == 2 && a.is_contiguous() && batch.columns > 0) {
    batch.rows = call.output.numel() / batch.columns;
    batch.a = {batch.depth, 1, {}};
    batch.b = side_of(b, batch);
    return batch;
  }
  const Shape shape = broadcast_shapes(leading(a.shape()), leading(b.shape()));
  batch.axes = static_cast<int>(shape.size());
  std::ranges::copy(shape, batch.shape.begin());
  batch.count = element_count(shape);
  batch.a = side_of(a, batch);
  batch.b = side_of(b, batch);
  return batch;
}

Convolution convolution(const OpCall& call) {
  const Tensor& x = call.inputs[0];
  const Tensor& w = call.inputs[1];
  const Tensor& bias = call.inputs[2];
  const int axes = call.info->op == Op::kConv1d ? 1 : 2;
  if (x.ndim() != axes + 2 || w.ndim() != axes + 2) {
    wrong_shape(
        call, axes == 1 ? "needs x [N, C, T] and w [O, C, K]" : "needs x [N, C, H, W] and w [O, C, KH, KW]");
  }
  const OpParams& params = call.params;
  Convolution conv;
  conv.groups = params.groups;
  if (conv.groups < 1) wrong_option(call, "groups", 1, conv.groups);
  conv.batch = x.size(0);
  conv.channels = w.size(1);
  if (w.size(0) % conv.groups != 0 || x.size(1) % conv.groups != 0 ||
      x.size(1) / conv.groups != conv.channels) {
    wrong_shape(call,
                fmt::format("x's channels must be {} times w's second axis, and w's first divisible by it",
                            conv.groups));
  }
  conv.outputs = w.size(0) / conv.groups;
  if (bias.defined() && (bias.ndim() != 1 || bias.size(0) != w.size(0))) {
    wrong_shape(call, "the bias must have one element for each row of w");
  }
  conv.input = conv.kernel = conv.stride = conv.dilation = conv.output = {1, 1};
  // One axis is the width.
  for (size_t to = axes == 1 ? 1 : 0, axis = 2; to < 2; ++to, ++axis) {
    conv.input[to] = x.shape()[axis];
    conv.kernel[to] = w.shape()[axis];
    conv.stride[to] = params.stride[to];
    conv.padding[to] = params.padding[to];
    conv.dilation[to] = params.dilation[to];
    conv.output[to] = output_size(call, conv, to);
  }
  return conv;
}

Shape convolution_shape(const OpCall& call) {
  const Convolution conv = convolution(call);
  Shape shape = {conv.batch, conv.groups * conv.outputs};
  if (call.info->op == Op::kConv2d) shape.push_back(conv.output[0]);
  shape.push_back(conv.output[1]);
  return shape;
}

double multiply_adds(const OpCall& call) {
  const auto outputs = static_cast<double>(call.output.numel());
  if (call.info->op == Op::kMatmul) return outputs * static_cast<double>(call.inputs[0].shape().back());
  const Tensor& w = call.inputs[1];
  if (w.size(0) == 0) return 0;
  return outputs * static_cast<double>(w.numel()) / static_cast<double>(w.size(0));
}

}  // namespace bitnet::ops
