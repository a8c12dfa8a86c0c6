// One block a token: norms and int8 rounding; embedding rows; gate times up.

#include "kernels/cuda/activation_image.cuh"
#include "kernels/cuda/dense.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;

constexpr int kTileQuads = static_cast<int>(kImageRow) / 4;

/// A row held by a block: thread i has vectors i, i + kBlock, ... As normalize_row and quantize_row
/// (norm.cuh).
template <int kBlock, int kVectors>
struct RegisterRow {
  float4 row[kVectors];

  static __device__ __forceinline__ int index(int v) { return static_cast<int>(threadIdx.x) + v * kBlock; }
  /// Of a row of so many vectors; beyond it the last, so that loads need no branches.
  static __device__ __forceinline__ const float4* vector_of(const float* x, int v, int vectors) {
    return reinterpret_cast<const float4*>(x) + min(index(v), vectors - 1);
  }
  __device__ __forceinline__ void load(const float* x, int vectors) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) row[v] = __ldcg(vector_of(x, v, vectors));
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (index(v) >= vectors) row[v] = float4{};
    }
  }
  __device__ __forceinline__ void normalize(int vectors, int64_t cols, const Norms& norms,
                                            RowReduction<kBlock>& reduction) {
    const double inverse_cols = 1.0 / static_cast<double>(cols);
    const float* const weights[2] = {norms.first, norms.second};
    const float eps[2] = {norms.first_eps, norms.second_eps};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      if (weights[n] == nullptr) continue;
      double squares = 0;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) squares = add_squares(squares, row[v]);
      const float factor =
          norm_factor(block_sum<kBlock>(squares, reduction.squares[n]), inverse_cols, eps[n]);
#pragma unroll
      for (int v = 0; v < kVectors; ++v)
        row[v] = apply_norm(row[v], factor, *vector_of(weights[n], v, vectors));  // 0 beyond the row stays 0
    }
  }
  /// `to` is where this thread's first four go, the others follow `step` bytes apart.
  __device__ __forceinline__ RowScale quantize(int vectors, RowReduction<kBlock>& reduction, int8_t* to,
                                               int64_t step) {
    uint32_t magnitude = magnitude_bits(1e-5f);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) magnitude = max(magnitude, magnitude_of(row[v]));
    magnitude = block_magnitude<kBlock>(magnitude, reduction);
    const float scale = __fdiv_rn(127.0f, __uint_as_float(magnitude));
    const bool finite = is_finite(magnitude);
    int32_t sum = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v, to += step) {
      const uint32_t four = finite ? quantize_four(row[v], scale) : 0u;
      sum = __dp4a(static_cast<int>(four), 0x01010101, sum);  // those beyond the row are 0
      if (index(v) < vectors) *reinterpret_cast<uint32_t*>(to) = four;
    }
    return {scale, block_row_sum<kBlock>(sum, reduction)};
  }
};

template <int kBlock>
__global__ void __launch_bounds__(kBlock) quantize_kernel(const QuantizeArgs args) {
  extern __shared__ float4 row[];
  __shared__ RowReduction<kBlock> reduction;
  const int64_t token = blockIdx.x;
  const int vectors = static_cast<int>(args.q_stride / 4);
  // Weights of norms pass through the L2 cache once a layer: they travel while the kernel in front runs.
  constexpr int kLine = 32;  // floats
  const int line = static_cast<int>(threadIdx.x) * kLine;
  if (blockIdx.x == 0 && args.norms.first != nullptr) {
    for (int i = line; i < args.q_stride; i += kBlock * kLine) prefetch(args.norms.first + i);
  }
  let_next_start();
  wait_for_previous();
  normalize_row<kBlock>(args.x + token * args.x_stride, vectors, args.cols, args.norms,
                        reinterpret_cast<const float4*>(args.norms.first), row, reduction);
  RowScale scale;
  if (args.image) {
    const auto write = [&](int quad, uint32_t four) {
      *reinterpret_cast<uint32_t*>(args.q + image_quad_offset(token, quad, args.tokens)) = four;
    };
    scale = quantize_row<kBlock>(row, vectors, reduction, write);
  } else {
    auto* q = reinterpret_cast<uint32_t*>(args.q + token * args.q_stride);
    scale = quantize_row<kBlock>(row, vectors, reduction, [&](int quad, uint32_t four) { q[quad] = four; });
  }
  if (threadIdx.x != 0) return;
  args.scale[token] = scale.scale;
  args.sum[token] = scale.sum;
}

/// The same for many rows of up to 4 kBlock kVectors columns: they stay in registers.
template <int kBlock, int kVectors>
__global__ void __launch_bounds__(kBlock, 1280 / kBlock) quantize_rows_kernel(const QuantizeArgs args) {
  __shared__ RowReduction<kBlock> reduction;
  const int64_t token = blockIdx.x;
  const int vectors = static_cast<int>(args.q_stride / 4);
  let_next_start();
  wait_for_previous();
  RegisterRow<kBlock, kVectors> row;
  row.load(args.x + token * args.x_stride, vectors);
  row.normalize(vectors, args.cols, args.norms, reduction);
  // A thread's quads have the same place in each column tile.
  const int64_t first = args.image ? image_quad_offset(token, threadIdx.x, args.tokens)
                                   : token * args.q_stride + 4 * int64_t{threadIdx.x};
  const int64_t step =
      args.image ? kBlock / kTileQuads * image_tokens(args.tokens) * kImageRow : int64_t{4} * kBlock;
  const RowScale scale = row.quantize(vectors, reduction, args.q + first, step);
  if (threadIdx.x != 0) return;
  args.scale[token] = scale.scale;
  args.sum[token] = scale.sum;
}

template <DType kType>
__global__ void __launch_bounds__(kThreads) embed_kernel(const EmbedArgs args) {
  const int64_t token = blockIdx.y;
  const int64_t id = args.ids == nullptr ? args.id : args.ids[token];
  const auto* source = static_cast<const uint8_t*>(args.table.rows) + id * args.table.row_bytes;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.table.cols;
       i += int64_t{gridDim.x} * kThreads) {
    args.x[token * args.x_stride + i] = DenseFormat<kType>::value(source, i);
  }
}

__global__ void __launch_bounds__(kThreads) glu_kernel(const GluArgs args) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.count) return;
  args.h[i] = __fmul_rn(args.relu2 ? relu2(args.gate[i]) : silu(args.gate[i]), args.up[i]);
}

}  // namespace

void quantize(const QuantizeArgs& args, Stream stream) {
  constexpr int64_t kWide = 4096, kFew = 128;  // columns, tokens: few blocks are waited for, many share
  const dim3 blocks(static_cast<unsigned>(args.tokens));
  const int64_t vectors = args.q_stride / 4;
  if (args.tokens > kFew && vectors <= 128 * 5)
    return launch(quantize_rows_kernel<128, 5>, blocks, 128, 0, Start::kOverlapped, stream, args);
  if (args.tokens > kFew && vectors <= 384 * 5)
    return launch(quantize_rows_kernel<384, 5>, blocks, 384, 0, Start::kOverlapped, stream, args);
  const size_t shared = static_cast<size_t>(args.q_stride) * sizeof(float);
  if (args.cols <= kWide || args.tokens > kFew)
    return launch(quantize_kernel<256>, blocks, 256, shared, Start::kOverlapped, stream, args);
  launch(quantize_kernel<512>, blocks, 512, shared, Start::kOverlapped, stream, args);
}

void embed(const EmbedArgs& args, Stream stream) {
  const int64_t blocks = std::min<int64_t>(ceil_div<int64_t>(args.table.cols, kThreads), 16);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(args.tokens));
  for_dense_type(args.table.dtype, [&](auto type) {
    launch(embed_kernel<decltype(type)::kType>, grid, kThreads, 0, Start::kAfterPrevious, stream, args);
  });
}

void glu(const GluArgs& args, Stream stream) {
  launch(glu_kernel, dim3(static_cast<unsigned>(ceil_div<int64_t>(args.count, kThreads))), kThreads, 0,
         Start::kAfterPrevious, stream, args);
}

}  // namespace bitnet::cuda
