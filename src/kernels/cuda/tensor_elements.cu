// Elementwise functions with broadcasting.

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 8;

__device__ float apply(ElementFunction function, float a, float b) {
  switch (function) {
    case ElementFunction::kCopy:
      return a;
    case ElementFunction::kNegative:
      return -a;
    case ElementFunction::kAbsolute:
      return fabsf(a);
    case ElementFunction::kSquare:
      return a * a;
    case ElementFunction::kSqrt:
      return sqrtf(a);
    case ElementFunction::kExp:
      return expf(a);
    case ElementFunction::kLog:
      return logf(a);
    case ElementFunction::kRelu:
      return a < 0.0f ? 0.0f : a;  // keeps a NaN
    case ElementFunction::kReluSquared:
      return a < 0.0f ? 0.0f : a * a;
    case ElementFunction::kSigmoid:
      return 1.0f / (1.0f + expf(-a));
    case ElementFunction::kTanh:
      return tanhf(a);
    case ElementFunction::kSilu:
      return a / (1.0f + expf(-a));
    case ElementFunction::kGelu:
      return 0.5f * a * erfcf(a * -0.70710678118654752f);  // 1 + erf would cancel below 0
    case ElementFunction::kAdd:
      return a + b;
    case ElementFunction::kSubtract:
      return a - b;
    case ElementFunction::kMultiply:
      return a * b;
    case ElementFunction::kDivide:
      return a / b;
    case ElementFunction::kPower:
      return powf(a, b);
    case ElementFunction::kMinimum:
      return a != a || a < b ? a : b;
    case ElementFunction::kMaximum:
      return a != a || a > b ? a : b;
    case ElementFunction::kEqual:
      return a == b ? 1.0f : 0.0f;
    case ElementFunction::kNotEqual:
      return a != b ? 1.0f : 0.0f;
    case ElementFunction::kLess:
      return a < b ? 1.0f : 0.0f;
    case ElementFunction::kLessEqual:
      return a <= b ? 1.0f : 0.0f;
    case ElementFunction::kGreater:
      return a > b ? 1.0f : 0.0f;
    case ElementFunction::kGreaterEqual:
      return a >= b ? 1.0f : 0.0f;
  }
  return 0.0f;
}

__global__ void __launch_bounds__(kThreads) element_kernel(const ElementArgs args) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  const bool binary = is_binary(args.function);
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.count; i += step) {
    const auto offset = [&](const ElementOperand& operand) {
      return offset_of(i, args.ndim, args.shape, operand.strides);
    };
    const float a = load_value(args.in[0].dtype, args.in[0].data, offset(args.in[0]));
    const float b = binary ? load_value(args.in[1].dtype, args.in[1].data, offset(args.in[1])) : 0.0f;
    store_value(args.out.dtype, args.out.data, offset(args.out), apply(args.function, a, b));
  }
}

/// Axes that follow each other without a gap in every operand become one, so that dense tensors need no
/// division.
void merge_axes(ElementArgs& args) {
  ElementOperand* operands[] = {&args.out, &args.in[0], &args.in[1]};
  int last = 0;
  for (int axis = 1; axis < args.ndim; ++axis) {
    bool joined = true;
    for (const ElementOperand* operand : operands) {
      joined = joined && operand->strides[last] == operand->strides[axis] * args.shape[axis];
    }
    last += joined ? 0 : 1;
    args.shape[last] = joined ? args.shape[last] * args.shape[axis] : args.shape[axis];
    for (ElementOperand* operand : operands) operand->strides[last] = operand->strides[axis];
  }
  args.ndim = args.ndim == 0 ? 0 : last + 1;
}

}  // namespace

void element(const ElementArgs& args, Stream stream) {
  if (args.count == 0) return;
  ElementArgs merged = args;
  merge_axes(merged);
  const int64_t wanted = ceil_div<int64_t>(args.count, kThreads);
  const int64_t most = int64_t{device_limits().multiprocessors} * kBlocksPerMultiprocessor;
  launch(element_kernel, dim3(static_cast<unsigned>(std::min(wanted, most))), kThreads, 0,
         Start::kAfterPrevious, stream, merged);
}

}  // namespace bitnet::cuda
