#include "ops/gpu_backend.h"

#include "bitnet/ops/devices.h"
#include "ops/gpu_stream.h"

#include <algorithm>
#include <array>
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
    const bool known = element_function(call.info->op) || reduce_function(call.info->op);
    return known ? std::string_view() : "no kernel for this operation";
  }

  /// A launch, and every byte once.
  [[nodiscard]] double estimate(const OpCall& call) const override {
    constexpr double kLaunchSeconds = 5e-6;  // of a small kernel, waited for, on an H200 (docs/BENCHMARKS.md)
    return kLaunchSeconds + static_cast<double>(call.bytes()) / device_speed(device_).memory_bytes_per_second;
  }
  /// Elements of an f32 addition: three of four bytes each.
  [[nodiscard]] double throughput() const override {
    return device_speed(device_).memory_bytes_per_second / 12;
  }

  void run(OpCall& call) const override {
    const cuda::Stream stream = use_gpu(device_);
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
