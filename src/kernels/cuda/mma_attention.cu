// Causal attention of several tokens over an f16 cache on the tensor cores, f32 accumulation. Keys and values
// are f16 as they stand; queries and weights are the sum of two f16 each, so that what is lost is about 2^-22
// of a factor, not 2^-11. Not the bits of attention_chunk (docs/NUMERICS.md): another order of sums. A
// query's result depends on nothing but its own row and the cache: not on the tile it falls into. A block
// takes 64 queries of a head, a warp 16 of them, over tiles of 64 keys.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

#include <cuda_fp16.h>

namespace bitnet::cuda {
namespace {

constexpr int kQueries = 64, kKeys = 64, kThreads = 128;
constexpr int kKeyTiles = kKeys / 8;

template <int kDim>
struct Tile {
  static constexpr int kVectors = kDim / 8;  ///< of 16 bytes in a row
  static constexpr int kBytes = kKeys * kDim * 2;
  static constexpr int kSteps = kDim / 16;
  static constexpr size_t kSharedBytes = 4 * size_t{kBytes};  ///< two stages of keys and of values
};

/// Eight rows of the same vector lie in different banks.
template <int kDim>
__device__ __forceinline__ int swizzled(int row, int vector) {
  return row * Tile<kDim>::kVectors + (vector ^ (row & 7));
}

__device__ __forceinline__ void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Four 8 x 8 matrices; lane l names row l % 8 of matrix l / 8.
template <bool kTransposed>
__device__ __forceinline__ uint4 load_matrices(const uint4* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  uint4 m;
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
                 : "r"(address));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
                 : "r"(address));
  }
  return m;
}

/// (a, b) as the sum of two pairs of f16.
__device__ __forceinline__ void split(float a, float b, uint32_t& high, uint32_t& low) {
  const __half2 h = __floats2half2_rn(a, b);
  const float2 back = __half22float2(h);
  const __half2 l = __floats2half2_rn(a - back.x, b - back.y);
  high = *reinterpret_cast<const uint32_t*>(&h);
  low = *reinterpret_cast<const uint32_t*>(&l);
}

template <int kDim>
__device__ __forceinline__ void load_tile(const __half* source, int64_t stride, int64_t first, int64_t length,
                                          uint4* tile) {
  constexpr int kVectors = Tile<kDim>::kVectors;
#pragma unroll 4
  for (int i = threadIdx.x; i < kKeys * kVectors; i += kThreads) {
    const int row = i / kVectors, vector = i % kVectors;
    const bool valid = first + row < length;
    copy_async(tile + swizzled<kDim>(row, vector), source + (valid ? first + row : 0) * stride + vector * 8,
               valid);
  }
}

/// A warp's 16 queries: their fragments, and their state over the keys so far. Lane (g, t) has rows g and g
/// + 8.
template <int kDim>
struct Rows {
  uint32_t high[Tile<kDim>::kSteps][4], low[Tile<kDim>::kSteps][4];
  float out[kDim / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY}, total[2] = {};
};

template <int kDim>
__device__ __forceinline__ void load_queries(const PrefillAttentionArgs& args, int64_t head,
                                             int64_t first_token, float factor, Rows<kDim>& rows) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int step = 0; step < Tile<kDim>::kSteps; ++step) {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const int64_t token = first_token + g + part % 2 * 8;
      const int dim = step * 16 + part / 2 * 8 + 2 * t;
      float2 q = make_float2(0, 0);
      if (token < args.tokens)
        q = *reinterpret_cast<const float2*>(args.qkv + token * args.qkv_stride + head * kDim + dim);
      split(q.x * factor, q.y * factor, rows.high[step][part], rows.low[step][part]);
    }
  }
}

template <int kDim>
__device__ __forceinline__ void score_tile(const Rows<kDim>& rows, const uint4* keys,
                                           float (&scores)[kKeyTiles][4]) {
  const int lane = threadIdx.x % 32, matrix = lane / 8;
#pragma unroll
  for (int step = 0; step < Tile<kDim>::kSteps; ++step) {
#pragma unroll
    for (int pair = 0; pair < kKeyTiles / 2; ++pair) {
      const int key = pair * 16 + matrix / 2 * 8 + lane % 8;
      const uint4 b = load_matrices<false>(keys + swizzled<kDim>(key, step * 2 + matrix % 2));
      mma_f16(scores[2 * pair], rows.high[step], b.x, b.y);
      mma_f16(scores[2 * pair + 1], rows.high[step], b.z, b.w);
      mma_f16(scores[2 * pair], rows.low[step], b.x, b.y);
      mma_f16(scores[2 * pair + 1], rows.low[step], b.z, b.w);
    }
  }
}

/// Scores, in units of log2, become weights; the rows' state moves to the new maximum.
template <int kDim>
__device__ __forceinline__ void soften(float (&scores)[kKeyTiles][4], Rows<kDim>& rows) {
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    float highest = rows.maximum[side];
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n)
      highest = fmaxf(highest, fmaxf(scores[n][2 * side], scores[n][2 * side + 1]));
    highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
    const float keep = exp2f(rows.maximum[side] - highest);
    rows.maximum[side] = highest;
    rows.total[side] *= keep;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      rows.out[n][2 * side] *= keep;
      rows.out[n][2 * side + 1] *= keep;
    }
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[n][2 * side + i];
        score = exp2f(score - highest);
        rows.total[side] += score;
      }
    }
  }
}

template <int kDim>
__device__ __forceinline__ void add_values(const float (&weights)[kKeyTiles][4], const uint4* values,
                                           Rows<kDim>& rows) {
  const int lane = threadIdx.x % 32, matrix = lane / 8;
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
    uint32_t high[4], low[4];
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const auto& four = weights[2 * step + part / 2];
      split(four[part % 2 * 2], four[part % 2 * 2 + 1], high[part], low[part]);
    }
#pragma unroll
    for (int pair = 0; pair < kDim / 16; ++pair) {
      const int key = step * 16 + matrix % 2 * 8 + lane % 8;
      const uint4 b = load_matrices<true>(values + swizzled<kDim>(key, pair * 2 + matrix / 2));
      mma_f16(rows.out[2 * pair], high, b.x, b.y);
      mma_f16(rows.out[2 * pair + 1], high, b.z, b.w);
      mma_f16(rows.out[2 * pair], low, b.x, b.y);
      mma_f16(rows.out[2 * pair + 1], low, b.z, b.w);
    }
  }
}

template <int kDim>
__device__ __forceinline__ void write_rows(const PrefillAttentionArgs& args, int64_t head,
                                           int64_t first_token, const Rows<kDim>& rows) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    float total = rows.total[side];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    const int64_t token = first_token + g + side * 8;
    if (token >= args.tokens) continue;
    const float inverse = __fdiv_rn(1.0f, total);
    float* out = args.out + token * args.out_stride + head * kDim + 2 * t;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      *reinterpret_cast<float2*>(out + n * 8) =
          make_float2(rows.out[n][2 * side] * inverse, rows.out[n][2 * side + 1] * inverse);
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads, 2) mma_kernel(const PrefillAttentionArgs args) {
  extern __shared__ uint4 stages[];
  constexpr int kStageVectors = 2 * Tile<kDim>::kBytes / 16;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t head = blockIdx.y, kv_head = head / (args.heads.heads / args.heads.kv_heads);
  // The last queries see the most keys: they start first.
  const int64_t block_token = int64_t{gridDim.x - 1 - blockIdx.x} * kQueries,
                first_token = block_token + warp * 16;
  const int64_t length = args.first + min(block_token + kQueries, args.tokens);
  const int64_t stride = args.heads.kv_heads * int64_t{kDim};
  const auto* k = static_cast<const __half*>(args.cache.keys) + kv_head * kDim;
  const auto* v = static_cast<const __half*>(args.cache.values) + kv_head * kDim;
  const auto load_stage = [&](int64_t first, int stage) {
    load_tile<kDim>(k, stride, first, length, stages + stage * kStageVectors);
    load_tile<kDim>(v, stride, first, length, stages + stage * kStageVectors + kStageVectors / 2);
  };
  let_next_start();
  wait_for_previous();
  load_stage(0, 0);
  commit_copies();
  Rows<kDim> rows;
  load_queries<kDim>(args, head, first_token, args.scale * 1.44269504f, rows);
  int stage = 0;
  for (int64_t first = 0; first < length; first += kKeys, stage ^= 1) {
    if (first + kKeys < length) load_stage(first + kKeys, stage ^ 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const uint4* keys = stages + stage * kStageVectors;
    float scores[kKeyTiles][4] = {};
    score_tile<kDim>(rows, keys, scores);
    const int64_t first_query = args.first + first_token + lane / 4;
    if (first + kKeys - 1 > args.first + first_token) {  // some query of the warp does not see all
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (first + n * 8 + lane % 4 * 2 + i % 2 > first_query + i / 2 * 8) scores[n][i] = -INFINITY;
        }
      }
    }
    soften<kDim>(scores, rows);
    add_values<kDim>(scores, keys + kStageVectors / 2, rows);
    __syncthreads();  // the stage is free
  }
  write_rows<kDim>(args, head, first_token, rows);
}

template <int kDim>
void run_dim(const PrefillAttentionArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.tokens, kQueries)),
                  static_cast<unsigned>(args.heads.heads));
  launch(mma_kernel<kDim>, grid, kThreads, Tile<kDim>::kSharedBytes, Start::kOverlapped, stream, args);
}

}  // namespace

bool mma_attention_runs(const Heads& heads, DType kv_type) {
  return kv_type == DType::kF16 && (heads.head_dim == 64 || heads.head_dim == 128);
}

void mma_attention(const PrefillAttentionArgs& args, Stream stream) {
  if (args.heads.head_dim == 64) return run_dim<64>(args, stream);
  run_dim<128>(args, stream);
}

}  // namespace bitnet::cuda
