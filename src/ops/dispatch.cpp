#include "ops/dispatch.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/ops/convert.h"
#include "bitnet/ops/devices.h"
#include "bitnet/ops/metrics.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"
#include "ops/numerics.h"
#include "ops/prepare.h"
#include "tensor/layout.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include <fmt/format.h>

namespace bitnet {
namespace {

std::atomic<uint64_t> fallbacks{0};

}  // namespace

uint64_t fallback_count() {
  return fallbacks.load(std::memory_order_relaxed);
}

namespace ops {
namespace {

OpCall make_call(Op op, Operands operands, const OpParams& params) {
  OpCall call;
  call.info = &op_info(op);
  call.params = params;
  call.context = &ExecutionContext::current();
  for (const Tensor* operand : operands) call.inputs[call.input_count++] = *operand;
  return call;
}

/// Operands that may be left out: weight and bias of a norm, bias of a convolution.
int required_operands(const OpCall& call) {
  if (call.info->type == OperationType::kNormalization) return 1;
  return call.info->type == OperationType::kConvolution ? 2 : call.input_count;
}

/// The operands must hold something and lie on one device: the context's, where it names one.
void check_operands(OpCall& call) {
  const int required = required_operands(call);
  for (int k = 0; k < call.input_count; ++k) {
    Tensor& operand = call.inputs[k];
    if (!operand.defined() && k < required) {
      throw Error(ErrorCode::kInvalidTensor,
                  fmt::format("{}: operand {} holds nothing", call.info->name, k + 1));
    }
    const Device wanted = call.context->device.value_or(operand.device());
    if (operand.defined() && operand.device() != wanted) operand = to_device(operand, wanted);
    if (!operand.defined() || operand.device() == call.inputs[0].device()) continue;
    throw Error(ErrorCode::kDeviceMismatch,
                fmt::format("{}: operands on {} and {}", call.info->name, to_string(call.inputs[0].device()),
                            to_string(operand.device())),
                "bring them to one device with to_device");
  }
}

/// Failures of a machine or library, which another back end may not have. A wrong argument stays wrong.
bool worth_another_try(const Error& error) {
  return error.code() == ErrorCode::kBackend || error.code() == ErrorCode::kDevice ||
         error.code() == ErrorCode::kOutOfMemory || error.code() == ErrorCode::kUnsupported;
}

void run_measured(const Backend& backend, OpCall& call) {
  AccelerationMetrics* metrics = call.context->metrics;
  if (metrics == nullptr) return backend.run(call);
  const auto start = std::chrono::steady_clock::now();
  backend.run(call);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  *metrics = {};
  metrics->backend_used = backend.name();
  metrics->execution_time_seconds = seconds;
  metrics->memory_used_bytes = call.bytes();
  metrics->operations_per_second = seconds > 0 ? call.operations() / seconds : 0;
  metrics->efficiency_score =
      seconds > 0 ? measured_roofline().seconds(call.bytes(), call.operations()) / seconds : 0;
}

void count_fallback(const OpCall& call, std::string_view failed, const Error& error, std::string_view next) {
  fallbacks.fetch_add(1, std::memory_order_relaxed);
  log_message(LogLevel::kWarning, fmt::format("{}: {} failed ({}); repeated with {}", call.info->name, failed,
                                              error.what(), next));
}

void run_with_fallback(OpCall& call, bool overwrites_operand) {
  BackendList ranked;
  ranked.push_back(&best_backend(call));
  for (size_t i = 0;; ++i) {
    try {
      return run_measured(*ranked[i], call);
    } catch (const Error& error) {
      // Operands that are partly results already cannot be computed from again.
      if (call.context->strict || overwrites_operand || !worth_another_try(error)) throw;
      if (i == 0) ranked = ranked_backends(call);
      if (i + 1 >= ranked.size()) throw;
      count_fallback(call, ranked[i]->name(), error, ranked[i + 1]->name());
    }
  }
}

/// The result, where the operands lie; they are converted.
Tensor compute(OpCall& call) {
  const DType dtype = prepare_dtypes(call);
  call.output = empty(result_shape(call), dtype, call.inputs[0].device());
  run_with_fallback(call, false);
  if (call.context->check_numerics != NumericsCheck::kNone) check_result(call);
  return std::move(call.output);
}

/// The same; what a GPU cannot do is computed on the host from copies, and its result taken back.
Tensor compute_anywhere(OpCall& call) {
  const Device device = call.inputs[0].device();
  if (is_host(device)) return compute(call);
  OpCall on_host = call;
  try {
    return compute(call);
  } catch (const Error& error) {
    const ExecutionContext& context = *call.context;
    // Types are converted on the host only, which says kDeviceMismatch.
    const bool other_may = worth_another_try(error) || error.code() == ErrorCode::kDeviceMismatch;
    if (context.strict || !context.backend.empty() || !other_may) throw;
    count_fallback(call, to_string(device), error, "the host");
  }
  for (Tensor& operand : on_host.inputs) {
    if (operand.defined()) operand = to_device(operand, kCpuDevice);
  }
  return to_device(compute(on_host), device);
}

std::vector<ErrorOperand> described(Operands operands) {
  std::vector<ErrorOperand> result;
  for (const Tensor* operand : operands) {
    const auto shape = operand->shape();
    if (operand->defined()) result.push_back({operand->dtype(), {shape.begin(), shape.end()}});
  }
  return result;
}

/// body(call); an error that leaves it carries the operation's name and the operands as they were given.
template <class Body>
void with_call(Op op, Operands operands, const OpParams& params, Body&& body) {
  OpCall call = make_call(op, operands, params);
  try {
    body(call);
  } catch (Error& error) {
    error.with_operation(std::string(call.info->name), described(operands));
    throw;
  }
}

void check_output(const OpCall& call, DType dtype, const Shape& shape, const Tensor& output) {
  const std::string_view name = call.info->name;
  if (output.dtype() != dtype) {
    throw Error(ErrorCode::kDTypeMismatch,
                fmt::format("{} in place: the result is {}, the tensor written {}", name, to_string(dtype),
                            to_string(output.dtype())),
                "use the form that returns a new tensor");
  }
  if (!std::ranges::equal(output.shape(), shape)) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("{} in place: the result has the shape {}, the tensor written {}", name,
                            to_string(shape), to_string(output.shape())));
  }
  const auto strides = output.strides();
  for (size_t i = 0; i < shape.size(); ++i) {
    if (strides[i] == 0 && shape[i] > 1) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} in place: the tensor written is expanded, its elements share memory", name),
                  "write into a clone");
    }
  }
}

/// An operand that shares the output's storage under another layout would be overwritten while it is read.
void separate_overlaps(OpCall& call) {
  for (int k = 0; k < call.input_count; ++k) {
    Tensor& operand = call.inputs[k];
    if (!operand.shares_storage(call.output)) continue;
    const bool same = operand.offset() == call.output.offset() && operand.dtype() == call.output.dtype() &&
                      std::ranges::equal(operand.shape(), call.output.shape()) &&
                      std::ranges::equal(operand.strides(), call.output.strides());
    if (!same) operand = clone(operand);
  }
}

}  // namespace

Tensor dispatch(Op op, Operands operands, const OpParams& params) {
  Tensor result;
  with_call(op, operands, params, [&](OpCall& call) {
    check_operands(call);
    result = compute_anywhere(call);
  });
  return result;
}

void dispatch_into(Op op, Operands operands, Tensor& output, const OpParams& params) {
  with_call(op, operands, params, [&](OpCall& call) {
    check_operands(call);
    const DType dtype = prepare_dtypes(call);
    check_output(call, dtype, result_shape(call), output);
    call.output = output;
    (void)call.output.bytes();  // throws where the storage is read-only
    separate_overlaps(call);
    const auto inputs = call.operands();
    const bool overwrites = std::any_of(
        inputs.begin(), inputs.end(), [&](const Tensor& operand) { return operand.shares_storage(output); });
    run_with_fallback(call, overwrites);
    if (call.context->check_numerics != NumericsCheck::kNone) check_in_place(call);
  });
}

OpParams reduction_params(const Tensor& x, std::span<const int> axes, bool keepdims,
                          std::string_view function) {
  OpParams params;
  params.keepdims = keepdims;
  if (axes.empty()) {
    params.axis_count = x.ndim();
    for (int i = 0; i < x.ndim(); ++i) params.axes[i] = i;
    return params;
  }
  std::array<bool, kMaxDims> chosen{};
  for (const int axis : axes) {
    const int normal = normalize_axis(axis, x.ndim(), function);
    if (chosen[normal]) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: axis {} is named twice", function, axis));
    }
    chosen[normal] = true;
  }
  for (int i = 0; i < x.ndim(); ++i) {
    if (chosen[i]) params.axes[params.axis_count++] = i;
  }
  return params;
}

}  // namespace ops
}  // namespace bitnet
