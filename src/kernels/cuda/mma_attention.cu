// Causal attention of several tokens over an f16 cache on the tensor cores, f32 accumulation. Keys and values
// are f16 as they stand; queries and weights are the sum of two f16 each, so that what is lost is about 2^-22
// of a factor, not 2^-11. Not the bits of attention_chunk (docs/NUMERICS.md): another order of sums. A
// query's result depends on nothing but its own row and the cache: not on the tile it falls into. A block
// takes 64 queries of a head, over tiles of 64 keys; two warps share 16 queries, one takes the even tiles of
// the cache, the other the odd ones.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/f16_split.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"

#include <cuda_fp16.h>

namespace bitnet::cuda {
namespace {

constexpr int kQueries = 64, kKeys = 64, kThreads = 256;
constexpr int kQueryWarps = kQueries / 16, kTilesTogether = 2;
static_assert(kThreads / 32 == kQueryWarps * kTilesTogether);
constexpr int kKeyTiles = kKeys / 8;

template <int kDim>
struct Tile {
  static constexpr int kVectors = kDim / 8;  ///< of 16 bytes in a row
  static constexpr int kBytes = kKeys * kDim * 2;
  static constexpr int kSteps = kDim / 16;
  static constexpr int kVectorCount = kBytes / 16;
  /// Two stages of keys and of values.
  static constexpr size_t kSharedBytes = 4 * size_t{kTilesTogether} * kBytes;
};

/// Eight rows of the same vector lie in different banks.
template <int kDim>
__device__ __forceinline__ int swizzled(int row, int vector) {
  return row * Tile<kDim>::kVectors + (vector ^ (row & 7));
}

__device__ __forceinline__ void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
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

template <int kDim>
__device__ __forceinline__ void load_tiles(const __half* source, int64_t stride, int64_t first,
                                           int64_t length, uint4* tiles) {
  constexpr int kVectors = Tile<kDim>::kVectors;
#pragma unroll 4
  for (int i = threadIdx.x; i < kTilesTogether * kKeys * kVectors; i += kThreads) {
    const int row = i / kVectors, vector = i % kVectors;
    const bool valid = first + row < length;
    copy_async(tiles + swizzled<kDim>(row, vector), source + (valid ? first + row : 0) * stride + vector * 8,
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

/// Elements dim, dim + 1 of a query.
template <int kDim>
__device__ __forceinline__ float2 rotated_query(const PrefillAttentionArgs& args, int64_t token, int64_t head,
                                                int dim) {
  constexpr int kHalf = kDim / 2;
  const float* q = args.qkv + token * args.qkv_stride + head * kDim + dim % kHalf;
  const int64_t angle = (args.first + token) * kHalf + dim % kHalf;
  const Rotated first = rotate(q[0], q[kHalf], args.cos[angle], args.sin[angle]);
  const Rotated second = rotate(q[1], q[kHalf + 1], args.cos[angle + 1], args.sin[angle + 1]);
  return dim < kHalf ? make_float2(first.a, second.a) : make_float2(first.b, second.b);
}

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
      if (token < args.tokens) q = rotated_query<kDim>(args, token, head, dim);
      split_pair(q.x * factor, q.y * factor, rows.high[step][part], rows.low[step][part]);
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
    // A query that sees none of its tiles yet has no maximum.
    const float base = highest == -INFINITY ? 0.0f : highest;
    const float keep = exp2f(rows.maximum[side] - base);
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
        score = exp2f(score - base);
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
      split_pair(four[part % 2 * 2], four[part % 2 * 2 + 1], high[part], low[part]);
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

/// The odd tiles' state joins the even ones', through shared memory that nothing else is in any more.
template <int kDim>
__device__ __forceinline__ void join_tiles(Rows<kDim>& rows, float4* shared) {
  constexpr int kStateVectors = kDim / 8 + 1;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float4* mine = shared + warp % kQueryWarps * kStateVectors * 32 + lane;
  if (warp >= kQueryWarps) {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n)
      mine[n * 32] = make_float4(rows.out[n][0], rows.out[n][1], rows.out[n][2], rows.out[n][3]);
    mine[kDim / 8 * 32] = make_float4(rows.maximum[0], rows.maximum[1], rows.total[0], rows.total[1]);
  }
  __syncthreads();
  if (warp >= kQueryWarps) return;
  const float4 other = mine[kDim / 8 * 32];
  const float maximum[2] = {other.x, other.y}, total[2] = {other.z, other.w};
  float keep[2], add[2];
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    const float highest = fmaxf(rows.maximum[side], maximum[side]);  // key 0 is in an even tile: not -inf
    keep[side] = exp2f(rows.maximum[side] - highest);
    add[side] = exp2f(maximum[side] - highest);
    rows.total[side] = fmaf(rows.total[side], keep[side], __fmul_rn(total[side], add[side]));
  }
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) {
    const float4 o = mine[n * 32];
    const float odd[4] = {o.x, o.y, o.z, o.w};
#pragma unroll
    for (int i = 0; i < 4; ++i)
      rows.out[n][i] = fmaf(rows.out[n][i], keep[i / 2], __fmul_rn(odd[i], add[i / 2]));
  }
}

/// Grid: (heads, tiles of queries).
template <int kDim>
__global__ void __launch_bounds__(kThreads, 1) mma_kernel(const PrefillAttentionArgs args) {
  extern __shared__ uint4 stages[];
  constexpr int kTileVectors = Tile<kDim>::kVectorCount, kHalf = kTilesTogether * kTileVectors;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, my_tile = warp / kQueryWarps;
  const int64_t head = blockIdx.x, kv_head = head / (args.heads.heads / args.heads.kv_heads);
  // The last queries see the most keys: they start first.
  const int64_t block_token = int64_t{gridDim.y - 1 - blockIdx.y} * kQueries,
                first_token = block_token + warp % kQueryWarps * 16;
  const int64_t length = args.first + min(block_token + kQueries, args.tokens);
  const int64_t stride = args.heads.kv_heads * int64_t{kDim};
  const auto* k = static_cast<const __half*>(args.cache.keys) + kv_head * kDim;
  const auto* v = static_cast<const __half*>(args.cache.values) + kv_head * kDim;
  const auto load_stage = [&](int64_t first, int stage) {
    load_tiles<kDim>(k, stride, first, length, stages + stage * 2 * kHalf);
    load_tiles<kDim>(v, stride, first, length, stages + stage * 2 * kHalf + kHalf);
  };
  let_next_start();
  wait_for_previous();
  load_stage(0, 0);
  commit_copies();
  Rows<kDim> rows;
  load_queries<kDim>(args, head, first_token, args.scale * 1.44269504f, rows);
  int stage = 0;
  for (int64_t begin = 0; begin < length; begin += kTilesTogether * kKeys, stage ^= 1) {
    if (begin + kTilesTogether * kKeys < length) load_stage(begin + kTilesTogether * kKeys, stage ^ 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const int64_t first = begin + my_tile * kKeys, first_query = args.first + first_token;
    if (first < first_query + 16) {  // some query of the warp sees some key
      const uint4* keys = stages + stage * 2 * kHalf + my_tile * kTileVectors;
      float scores[kKeyTiles][4] = {};
      score_tile<kDim>(rows, keys, scores);
      if (first + kKeys - 1 > first_query) {  // and some does not see all
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if (first + n * 8 + lane % 4 * 2 + i % 2 > first_query + lane / 4 + i / 2 * 8)
              scores[n][i] = -INFINITY;
          }
        }
      }
      soften<kDim>(scores, rows);
      add_values<kDim>(scores, keys + kHalf, rows);
    }
    __syncthreads();  // the stage is free
  }
  wait_copies<0>();
  join_tiles<kDim>(rows, reinterpret_cast<float4*>(stages));
  if (my_tile == 0) write_rows<kDim>(args, head, first_token, rows);
}

template <int kDim>
void run_dim(const PrefillAttentionArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>(args.heads.heads),
                  static_cast<unsigned>(ceil_div<int64_t>(args.tokens, kQueries)));
  launch(mma_kernel<kDim>, grid, kThreads, Tile<kDim>::kSharedBytes, Start::kOverlapped, stream, args);
}

}  // namespace

bool mma_attention_runs(const Heads& heads, DType kv_type) {
  return kv_type == DType::kF16 && (heads.head_dim == 64 || heads.head_dim == 128);
}

void mma_attention(const PrefillAttentionArgs& args, Stream stream) {
  if (args.heads.head_dim == 64) return run_dim<64>(args, stream);
  if (device_limits().wgmma) return wgmma_attention(args, stream);
  run_dim<128>(args, stream);
}

}  // namespace bitnet::cuda
