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

/// a + b of columns `first` ... first + 3; behind `cols` a, whatever b is.
__device__ __forceinline__ float4 add(float4 a, float4 b, int first, int64_t cols) {
  const int left = static_cast<int>(cols) - first;
  return make_float4(left > 0 ? __fadd_rn(a.x, b.x) : a.x, left > 1 ? __fadd_rn(a.y, b.y) : a.y,
                     left > 2 ? __fadd_rn(a.z, b.z) : a.z, left > 3 ? __fadd_rn(a.w, b.w) : a.w);
}

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
  /// The sum of both rows, which x becomes.
  __device__ __forceinline__ void load_sum(float* x, const float* addend, int vectors, int64_t cols) {
    RegisterRow other;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) other.row[v] = __ldcg(vector_of(addend, v, vectors));
    load(x, vectors);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (index(v) >= vectors) continue;
      row[v] = add(row[v], other.row[v], 4 * index(v), cols);
      reinterpret_cast<float4*>(x)[index(v)] = row[v];
    }
  }
  /// weight(n, v): norm n's of vector v.
  template <class Weight>
  __device__ __forceinline__ void normalize(int64_t cols, const Norms& norms, RowReduction<kBlock>& reduction,
                                            Weight&& weight) {
    const double inverse_cols = 1.0 / static_cast<double>(cols);
    const float* const weights[2] = {norms.first, norms.second};
    const float eps[2] = {norms.first_eps, norms.second_eps};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      if (weights[n] == nullptr) continue;
      double squares = 0;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) squares += add_squares(0, row[v]);  // vectors beside one another
      const float factor =
          norm_factor(block_sum<kBlock>(squares, reduction.squares[n]), inverse_cols, eps[n]);
#pragma unroll
      for (int v = 0; v < kVectors; ++v)
        row[v] = apply_norm(row[v], factor, weight(n, v));  // 0 beyond the row stays 0
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

/// Rows of up to 4 kBlock kVectors columns. kFew: nothing else runs meanwhile, so the norm's weights come
/// while the kernel in front runs; many rows share a multiprocessor's registers.
template <int kBlock, int kVectors, bool kFew>
__global__ void __launch_bounds__(kBlock, 1280 / kBlock) quantize_rows_kernel(const QuantizeArgs args) {
  using Row = RegisterRow<kBlock, kVectors>;
  __shared__ RowReduction<kBlock> reduction;
  const int64_t token = blockIdx.x;
  const int vectors = static_cast<int>(args.q_stride / 4);
  float4 first_weight[kFew ? kVectors : 1];
  if (kFew && args.norms.first != nullptr) {
#pragma unroll
    for (int v = 0; v < (kFew ? kVectors : 1); ++v)
      first_weight[v] = *Row::vector_of(args.norms.first, v, vectors);
  }
  let_next_start();
  wait_for_previous();
  Row row;
  float* const x = args.x + token * args.x_stride;
  if (args.addend == nullptr) {
    row.load(x, vectors);
  } else {
    row.load_sum(x, args.addend + token * args.addend_stride, vectors, args.cols);
  }
  row.normalize(args.cols, args.norms, reduction, [&](int n, int v) {
    if (kFew && n == 0) return first_weight[kFew ? v : 0];
    return *Row::vector_of(n == 0 ? args.norms.first : args.norms.second, v, vectors);
  });
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

/// The same for rows of any length, in shared memory.
template <int kBlock>
__global__ void __launch_bounds__(kBlock) quantize_kernel(const QuantizeArgs args) {
  extern __shared__ float4 row[];
  __shared__ RowReduction<kBlock> reduction;
  const int64_t token = blockIdx.x;
  const int vectors = static_cast<int>(args.q_stride / 4);
  float* const x = args.x + token * args.x_stride;
  let_next_start();
  wait_for_previous();
  if (args.addend != nullptr) {
    auto* const sums = reinterpret_cast<float4*>(x);
    const auto* others = reinterpret_cast<const float4*>(args.addend + token * args.addend_stride);
    for (int i = threadIdx.x; i < vectors; i += kBlock)
      sums[i] = add(__ldcg(sums + i), __ldcg(others + i), 4 * i, args.cols);
  }
  normalize_row<kBlock>(x, vectors, args.cols, args.norms, reinterpret_cast<const float4*>(args.norms.first),
                        row, reduction);  // a thread reads what it has written
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

template <int kBlock, int kVectors, bool kFew>
bool quantize_in_registers(const QuantizeArgs& args, Stream stream) {
  if (args.q_stride / 4 > kBlock * kVectors) return false;
  launch(quantize_rows_kernel<kBlock, kVectors, kFew>, dim3(static_cast<unsigned>(args.tokens)), kBlock, 0,
         Start::kOverlapped, stream, args);
  return true;
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
  constexpr int64_t kFew = 128;  // tokens: few blocks are waited for, many share
  if (args.tokens <= kFew) {
    if (quantize_in_registers<256, 3, true>(args, stream)) return;
    if (quantize_in_registers<640, 3, true>(args, stream)) return;
  } else {
    if (quantize_in_registers<128, 5, false>(args, stream)) return;
    if (quantize_in_registers<384, 5, false>(args, stream)) return;
  }
  constexpr int kBlock = 512;
  launch(quantize_kernel<kBlock>, dim3(static_cast<unsigned>(args.tokens)), kBlock,
         static_cast<size_t>(args.q_stride) * sizeof(float), Start::kOverlapped, stream, args);
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
