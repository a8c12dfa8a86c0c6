#include "ops/gpu_backend.h"

#include "bitnet/ops/devices.h"
#include "ops/contraction/geometry.h"
#include "ops/gpu_stream.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>

namespace bitnet::ops {
namespace {

using cuda::ElementFunction;
using cuda::ReduceFunction;

std::optional<ElementFunction> element_function(Op op) {
  constexpr std::pair<Op, ElementFunction> kFunctions[] = {
      {Op::kAdd, ElementFunction::kAdd},
      {Op::kSub, ElementFunction::kSubtract},
      {Op::kMul, ElementFunction::kMultiply},
      {Op::kDiv, ElementFunction::kDivide},
      {Op::kPow, ElementFunction::kPower},
      {Op::kMinimum, ElementFunction::kMinimum},
      {Op::kMaximum, ElementFunction::kMaximum},
      {Op::kEqual, ElementFunction::kEqual},
      {Op::kNotEqual, ElementFunction::kNotEqual},
      {Op::kLess, ElementFunction::kLess},
      {Op::kLessEqual, ElementFunction::kLessEqual},
      {Op::kGreater, ElementFunction::kGreater},
      {Op::kGreaterEqual, ElementFunction::kGreaterEqual},
      {Op::kNeg, ElementFunction::kNegative},
      {Op::kAbs, ElementFunction::kAbsolute},
      {Op::kSquare, ElementFunction::kSquare},
      {Op::kSqrt, ElementFunction::kSqrt},
      {Op::kExp, ElementFunction::kExp},
      {Op::kLog, ElementFunction::kLog},
      {Op::kRelu, ElementFunction::kRelu},
      {Op::kReluSquared, ElementFunction::kReluSquared},
      {Op::kSigmoid, ElementFunction::kSigmoid},
      {Op::kTanh, ElementFunction::kTanh},
      {Op::kSilu, ElementFunction::kSilu},
      {Op::kGelu, ElementFunction::kGelu},
  };
  for (const auto& [name, function] : kFunctions) {
    if (name == op) return function;
  }
  return std::nullopt;
}

std::optional<ReduceFunction> reduce_function(Op op) {
  switch (op) {
    case Op::kSum:
      return ReduceFunction::kSum;
    case Op::kMean:
      return ReduceFunction::kMean;
    case Op::kMax:
      return ReduceFunction::kMaximum;
    case Op::kMin:
      return ReduceFunction::kMinimum;
    default:
      return std::nullopt;
  }
}

cuda::Axes axes_of(std::span<const int64_t> values) {
  cuda::Axes axes{};
  std::ranges::copy(values, axes.begin());
  return axes;
}

/// Elements where they lie; the kernels write results only.
cuda::ElementOperand operand_of(const Tensor& tensor) {
  return {const_cast<std::byte*>(tensor.bytes()), tensor.dtype(), axes_of(tensor.strides())};
}

void run_elements(OpCall& call, ElementFunction function, cuda::Stream stream) {
  cuda::ElementArgs args{.function = function,
                         .ndim = call.output.ndim(),
                         .shape = axes_of(call.output.shape()),
                         .count = call.output.numel(),
                         .out = operand_of(call.output),
                         .in = {}};
  for (int i = 0; i < call.input_count; ++i) {
    args.in[i] = operand_of(call.inputs[static_cast<size_t>(i)].expand(call.output.shape()));
  }
  cuda::tensor_table().element(args, stream);
}

void run_reduction(OpCall& call, ReduceFunction function, cuda::Stream stream) {
  const Tensor& in = call.inputs[0];
  cuda::ReduceArgs args{.function = function,
                        .in = in.bytes(),
                        .out = call.output.bytes(),
                        .dtype = in.dtype(),
                        .kept_axes = 0,
                        .reduced_axes = 0,
                        .kept_shape = {},
                        .kept_strides = {},
                        .reduced_shape = {},
                        .reduced_strides = {},
                        .outputs = 1,
                        .reduced = 1};
  const std::span<const int> axes(call.params.axes.data(), static_cast<size_t>(call.params.axis_count));
  for (int axis = 0; axis < in.ndim(); ++axis) {
    const auto at = static_cast<size_t>(axis);
    const bool reduced = std::ranges::find(axes, axis) != axes.end();
    const auto to = static_cast<size_t>(reduced ? args.reduced_axes++ : args.kept_axes++);
    (reduced ? args.reduced_shape : args.kept_shape)[to] = in.shape()[at];
    (reduced ? args.reduced_strides : args.kept_strides)[to] = in.strides()[at];
    (reduced ? args.reduced : args.outputs) *= in.shape()[at];
  }
  cuda::tensor_table().reduce(args, stream);
}

/// A matrix whose rows, or whose columns, have their elements side by side; nothing if neither.
struct GpuMatrix {
  int64_t row = 0;
  bool transposed = false;
};
std::optional<GpuMatrix> matrix_of(const MatmulBatch::Side& side, int64_t rows, int64_t columns) {
  if ((side.column_stride == 1 || columns == 1) && (rows == 1 || side.row_stride >= columns)) {
    return GpuMatrix{rows == 1 ? columns : side.row_stride, false};
  }
  if ((side.row_stride == 1 || rows == 1) && (columns == 1 || side.column_stride >= rows)) {
    return GpuMatrix{columns == 1 ? rows : side.column_stride, true};
  }
  return std::nullopt;
}

std::string_view refused_product(const OpCall& call) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // of sizes and strides in cuBLAS
  for (const Tensor& operand : call.operands()) {
    if (operand.numel() > kMost) return "more elements than cuBLAS counts in 32 bits";
  }
  if (call.output.numel() > kMost) return "a result larger than cuBLAS counts in 32 bits";
  const MatmulBatch batch = matmul_batch(call);
  const bool readable =
      matrix_of(batch.a, batch.rows, batch.depth) && matrix_of(batch.b, batch.depth, batch.columns);
  return readable ? std::string_view() : "neither rows nor columns lie densely; clone the operand";
}

void run_product(OpCall& call, cuda::Stream stream) {
  if (call.output.numel() == 0) return;
  const MatmulBatch batch = matmul_batch(call);
  if (batch.depth == 0) {  // sums of nothing
    cuda::table().clear(call.output.bytes(), static_cast<size_t>(call.output.nbytes()), stream);
    return;
  }
  const auto a = matrix_of(batch.a, batch.rows, batch.depth).value();
  const auto b = matrix_of(batch.b, batch.depth, batch.columns).value();
  const int64_t bytes_each = dtype_info(call.dtype).block_bytes;
  const int64_t a_step = batch.count > 1 ? batch.offset(batch.a, 1) : 0;
  const int64_t b_step = batch.count > 1 ? batch.offset(batch.b, 1) : 0;
  bool even = true;  // one step leads from each matrix to the next
  for (int64_t i = 2; even && i < batch.count; ++i) {
    even = batch.offset(batch.a, i) == i * a_step && batch.offset(batch.b, i) == i * b_step;
  }
  for (int64_t i = 0; i < (even ? 1 : batch.count); ++i) {
    const int64_t y_size = batch.rows * batch.columns;
    cuda::tensor_table().matmul(
        {.dtype = call.dtype,
         .m = batch.rows,
         .n = batch.columns,
         .k = batch.depth,
         .batch = even ? batch.count : 1,
         .a = std::as_const(call.inputs[0]).bytes() + batch.offset(batch.a, i) * bytes_each,
         .b = std::as_const(call.inputs[1]).bytes() + batch.offset(batch.b, i) * bytes_each,
         .c = call.output.bytes() + i * y_size * bytes_each,
         .a_transposed = a.transposed,
         .b_transposed = b.transposed,
         .a_row = a.row,
         .b_row = b.row,
         .c_row = batch.columns,
         .a_batch = a_step,
         .b_batch = b_step,
         .c_batch = y_size},
        stream);
  }
}

class GpuBackend final : public Backend {
 public:
  explicit GpuBackend(Device device)
      : device_(device), name_(device.index == 0 ? "cuda" : to_string(device)) {}

  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] Device device() const override { return device_; }
  [[nodiscard]] int priority() const override { return 100; }

  [[nodiscard]] std::string_view supports(const OpCall& call) const override {
    for (const Tensor& operand : call.operands()) {
      const DType dtype = operand.dtype();
      if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16)
        return "only f32, f16 and bf16";
    }
    if (call.info->op == Op::kMatmul) return refused_product(call);
    constexpr int64_t kMostResults = std::numeric_limits<int32_t>::max();  // a block or a thread for each
    if (reduce_function(call.info->op) && call.output.numel() > kMostResults) return "too many results";
    const bool known = element_function(call.info->op) || reduce_function(call.info->op);
    return known ? std::string_view() : "no kernel for this operation";
  }

  /// A launch, and every byte once.
  [[nodiscard]] double estimate(const OpCall& call) const override {
    constexpr double kLaunchSeconds = 5e-6;  // assumed, not measured; the same for all GPUs
    const DeviceSpeed& speed = device_speed(device_);
    const double moving = static_cast<double>(call.bytes()) / speed.memory_bytes_per_second;
    if (call.info->op != Op::kMatmul) return kLaunchSeconds + moving;
    return kLaunchSeconds + std::max(moving, call.operations() / speed.matmul_operations_per_second);
  }
  /// Elements of an f32 addition: three of four bytes each.
  [[nodiscard]] double throughput() const override {
    return device_speed(device_).memory_bytes_per_second / 12;
  }

  void run(OpCall& call) const override {
    const GpuTurn turn(device_, *call.context);
    const cuda::Stream stream = turn.stream();
    if (call.info->op == Op::kMatmul) return run_product(call, stream);
    if (const auto function = element_function(call.info->op)) return run_elements(call, *function, stream);
    if (const auto function = reduce_function(call.info->op)) return run_reduction(call, *function, stream);
  }

 private:
  Device device_;
  std::string name_;
};

}  // namespace

std::unique_ptr<const Backend> make_gpu_backend(Device device) {
  return std::make_unique<GpuBackend>(device);
}

}  // namespace bitnet::ops
