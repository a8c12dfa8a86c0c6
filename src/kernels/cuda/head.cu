// Logits: final norm and dense product, the bits of rms_norm and dense_matmul. Two threads share a row of the
// head: each runs eight of the sixteen chains of fma, over alternate eights of columns, so that a pair reads
// 32 bytes at a time and a warp sixteen rows.

#include "kernels/cuda/dense.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlockRows = kThreads / 2;
constexpr int kBlocksPerMultiprocessor = 4;
constexpr int kLanes = 16;
/// Loads of 8 weights in flight per thread.
constexpr int kAhead = 8;
/// Tokens that share a pass over the head.
constexpr int kManyTokens = 4;

__device__ __forceinline__ void multiply8(const float (&w)[8], const float4* x, float (&sums)[8]) {
  const float4 low = x[0], high = x[1];
  const float a[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
  for (int j = 0; j < 8; ++j) sums[j] = fmaf(a[j], w[j], sums[j]);
}

/// The tree of kernel_table.h over both threads' lanes.
__device__ __forceinline__ float reduce_lanes(const float (&sums)[8]) {
  float lane[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) lane[j] = sums[j] + __shfl_xor_sync(0xffffffffu, sums[j], 1);
#pragma unroll
  for (int width = 4; width > 0; width /= 2) {
#pragma unroll
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

template <DType kType, int kTokens>
__global__ void __launch_bounds__(kThreads) head_kernel(const HeadArgs args) {
  extern __shared__ float4 shared[];
  __shared__ RowReduction<kThreads> reduction;
  const int vectors = static_cast<int>((args.head.cols + kPad - 1) / kPad * kPad / 4);
  const int steps = static_cast<int>((args.head.cols + kLanes - 1) / kLanes);
  const int64_t first_token = int64_t{blockIdx.y} * kTokens;
  let_next_start();
  wait_for_previous();
#pragma unroll 1
  for (int t = 0; t < kTokens; ++t) {
    const int64_t token = min(first_token + t, args.tokens - 1);
    normalize_row<kThreads>(args.x + token * args.x_stride, vectors, args.head.cols, args.norms,
                            reinterpret_cast<const float4*>(args.norms.first), shared + t * vectors,
                            reduction);
    __syncthreads();
  }

  const int half = threadIdx.x % 2;
  const auto* weights = static_cast<const uint8_t*>(args.head.rows);
  for (int64_t base = int64_t{blockIdx.x} * kBlockRows; base < args.head.count;
       base += int64_t{gridDim.x} * kBlockRows) {
    const int64_t row = base + threadIdx.x / 2;
    const uint8_t* source = weights + min(row, args.head.count - 1) * args.head.row_bytes;
    float sums[kTokens][8] = {};
    for (int step = 0; step < steps; step += kAhead) {
      float w[kAhead][8];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (step + i < steps) DenseFormat<kType>::load8(source, 2 * (step + i) + half, w[i]);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (step + i >= steps) break;
#pragma unroll
        for (int t = 0; t < kTokens; ++t)
          multiply8(w[i], shared + t * vectors + 4 * (step + i) + 2 * half, sums[t]);
      }
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float logit = reduce_lanes(sums[t]);
      if (half == 0 && row < args.head.count && first_token + t < args.tokens)
        args.y[(first_token + t) * args.y_stride + row] = logit;
    }
  }
}

template <DType kType, int kTokens>
void run_tokens(const HeadArgs& args, Stream stream) {
  const int64_t blocks = std::min(ceil_div<int64_t>(args.head.count, kBlockRows),
                                  int64_t{kBlocksPerMultiprocessor} * device_limits().multiprocessors);
  const dim3 grid(static_cast<unsigned>(blocks),
                  static_cast<unsigned>(ceil_div<int64_t>(args.tokens, kTokens)));
  const auto row_bytes = static_cast<size_t>(ceil_div(args.head.cols, kPad) * kPad) * sizeof(float);
  launch(head_kernel<kType, kTokens>, grid, kThreads, kTokens * row_bytes, Start::kOverlapped, stream, args);
}

}  // namespace

void head(const HeadArgs& args, Stream stream) {
  for_dense_type(args.head.dtype, [&](auto type) {
    constexpr DType kType = decltype(type)::kType;
    if (args.tokens == 1) {
      run_tokens<kType, 1>(args, stream);
    } else {
      run_tokens<kType, kManyTokens>(args, stream);
    }
  });
}

}  // namespace bitnet::cuda
