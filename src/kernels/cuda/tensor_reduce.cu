// Reductions over any axes, accumulated in f64 in an order that depends on the shape alone.

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
/// Elements that one block reduces before a further block is worth its launch.
constexpr int64_t kPerPart = 16 * 1024;
constexpr int64_t kMostParts = 1024;
/// From so many outputs a thread each reduces one, where neighbours read neighbours.
constexpr int64_t kManyOutputs = 4096;

struct Parts {
  ReduceArgs args;
  double* partial;  ///< [outputs, parts]; null if parts is 1
  int64_t parts, per_part;
};

__device__ __forceinline__ double neutral(ReduceFunction function) {
  const double infinity = __longlong_as_double(0x7ff0000000000000LL);
  if (function == ReduceFunction::kMaximum) return -infinity;
  return function == ReduceFunction::kMinimum ? infinity : 0.0;
}

__device__ __forceinline__ double combine(ReduceFunction function, double a, double b) {
  if (function == ReduceFunction::kMaximum) return a != a || a > b ? a : b;
  if (function == ReduceFunction::kMinimum) return a != a || a < b ? a : b;
  return a + b;
}

__device__ __forceinline__ void store_result(const ReduceArgs& args, int64_t output, double value) {
  if (args.function == ReduceFunction::kMean) value /= static_cast<double>(args.reduced);
  store_value(args.dtype, args.out, output, static_cast<float>(value));
}

__device__ double load_at(const ReduceArgs& args, int64_t base, int64_t r) {
  return load_value(args.dtype, args.in,
                    base + offset_of(r, args.reduced_axes, args.reduced_shape, args.reduced_strides));
}

__device__ double block_reduce(ReduceFunction function, double value) {
  __shared__ double shared[kThreads];
  shared[threadIdx.x] = value;
  __syncthreads();
  for (unsigned width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) {
      shared[threadIdx.x] = combine(function, shared[threadIdx.x], shared[threadIdx.x + width]);
    }
    __syncthreads();
  }
  return shared[0];
}

/// Block (output, part).
__global__ void __launch_bounds__(kThreads) block_kernel(const Parts work) {
  const ReduceArgs& args = work.args;
  const int64_t output = blockIdx.x / work.parts, part = blockIdx.x % work.parts;
  const int64_t base = offset_of(output, args.kept_axes, args.kept_shape, args.kept_strides);
  const int64_t end = min((part + 1) * work.per_part, args.reduced);
  double value = neutral(args.function);
  for (int64_t r = part * work.per_part + threadIdx.x; r < end; r += kThreads) {
    value = combine(args.function, value, load_at(args, base, r));
  }
  value = block_reduce(args.function, value);
  if (threadIdx.x != 0) return;
  if (work.partial != nullptr) {
    work.partial[blockIdx.x] = value;
  } else {
    store_result(args, output, value);
  }
}

__global__ void __launch_bounds__(kThreads) merge_kernel(const Parts work) {
  double value = neutral(work.args.function);
  for (int64_t part = threadIdx.x; part < work.parts; part += kThreads) {
    value = combine(work.args.function, value, work.partial[blockIdx.x * work.parts + part]);
  }
  value = block_reduce(work.args.function, value);
  if (threadIdx.x == 0) store_result(work.args, blockIdx.x, value);
}

__global__ void __launch_bounds__(kThreads) thread_kernel(const ReduceArgs args) {
  const int64_t output = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (output >= args.outputs) return;
  const int64_t base = offset_of(output, args.kept_axes, args.kept_shape, args.kept_strides);
  double value = neutral(args.function);
  for (int64_t r = 0; r < args.reduced; ++r) value = combine(args.function, value, load_at(args, base, r));
  store_result(args, output, value);
}

}  // namespace

void reduce(const ReduceArgs& args, Stream stream) {
  if (args.outputs == 0) return;
  const bool inner_kept =
      args.kept_axes > 0 && args.kept_strides[static_cast<size_t>(args.kept_axes) - 1] == 1;
  if (inner_kept && args.outputs >= kManyOutputs) {
    launch(thread_kernel, dim3(static_cast<unsigned>(ceil_div<int64_t>(args.outputs, kThreads))), kThreads, 0,
           Start::kAfterPrevious, stream, args);
    return;
  }
  Parts work{.args = args, .partial = nullptr, .parts = 1, .per_part = args.reduced};
  work.parts = std::clamp<int64_t>(args.reduced / kPerPart, 1, kMostParts);
  work.per_part = ceil_div(args.reduced, work.parts);
  const auto blocks = dim3(static_cast<unsigned>(args.outputs * work.parts));
  if (work.parts == 1) {
    launch(block_kernel, blocks, kThreads, 0, Start::kAfterPrevious, stream, work);
    return;
  }
  const size_t bytes = sizeof(double) * static_cast<size_t>(args.outputs * work.parts);
  work.partial = static_cast<double*>(allocate_ordered(bytes, stream));
  launch(block_kernel, blocks, kThreads, 0, Start::kAfterPrevious, stream, work);
  launch(merge_kernel, dim3(static_cast<unsigned>(args.outputs)), kThreads, 0, Start::kAfterPrevious, stream,
         work);
  release_ordered(work.partial, stream);
}

}  // namespace bitnet::cuda
