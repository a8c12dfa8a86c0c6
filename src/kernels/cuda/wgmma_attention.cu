// Causal attention of prompts over an f16 cache by Hopper's asynchronous tensor cores: heads of 128 elements,
// with the factors of mma_attention.cu (queries and weights as sums of two f16) and its promise: a query's
// result depends on nothing but its own row and the cache. A block takes 128 queries of a head over tiles of
// 128 keys. One group of four warps brings keys and values; two others have 64 queries each, whose softmax of
// one tile runs while the tensor cores add up the values of the tile before.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/f16_split.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/weight_ring.cuh"
#include "kernels/cuda/wgmma_f16.cuh"

#include <cuda_fp16.h>

namespace bitnet::cuda {
namespace {

constexpr int kDim = 128, kQueries = 128, kKeys = 128;
constexpr int kGroupWarps = 4, kGroupThreads = kGroupWarps * kWarp, kThreads = 3 * kGroupThreads;
constexpr int kGroupQueries = 64;
constexpr int kRowVectors = kDim / 8;  // of 16 bytes
constexpr int kPanelVectors = 8;       // of a row
constexpr int kRowsAtOnce =
    kGroupThreads / kRowVectors;     // that four warps copy: a multiple of the swizzle's 8
constexpr uint32_t kPanelRow = 128;  // bytes
constexpr uint32_t kPanelBytes = kKeys * kPanelRow, kTileBytes = 2 * kPanelBytes;
constexpr uint32_t kQueryPanelBytes = kGroupQueries * kPanelRow, kQueryTileBytes = 2 * kQueryPanelBytes;
constexpr int kStages = 2;
constexpr uint32_t kAlignment = 1024;
/// Queries' high and low parts of both groups, then stages of keys, then of values.
constexpr uint32_t kKeysAt = 4 * kQueryTileBytes, kValuesAt = kKeysAt + kStages * kTileBytes;
constexpr size_t kSharedBytes = kAlignment + kValuesAt + kStages * kTileBytes;
constexpr int kSteps = kDim / 16;
static_assert(kKeys == kDim);  // as many steps in a product with keys as in one with values

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

struct AttentionBarriers {
  uint64_t keys_full[kStages], keys_empty[kStages], values_full[kStages], values_empty[kStages];
};

__device__ __forceinline__ void init_barrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
}
/// By a warp.
__device__ __forceinline__ void arrive_at(uint32_t barrier) {
  __syncwarp();
  if (threadIdx.x % kWarp == 0) asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// What this thread wrote to shared memory is visible to the tensor cores.
__device__ __forceinline__ void fence_writes() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
/// Of one group's four warps.
__device__ __forceinline__ void sync_group(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(kGroupThreads) : "memory");
}

/// 2^x, 0 for what is too small.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Where a thread's vectors of a tile lie: of rows first_row, first_row + kRowsAtOnce, ...
struct ThreadVectors {
  int first_row, vector;
  uint32_t offset;  ///< of the first
  static constexpr uint32_t kStep = kRowsAtOnce * kPanelRow;

  __device__ __forceinline__ explicit ThreadVectors(uint32_t panel_bytes) {
    const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
    first_row = thread / kRowVectors;
    vector = thread % kRowVectors;
    const int swizzled = vector % kPanelVectors ^ first_row % 8;
    offset = static_cast<uint32_t>(vector / kPanelVectors) * panel_bytes + first_row * kPanelRow +
             static_cast<uint32_t>(swizzled) * 16;
  }
};

/// The four warps that bring keys and values: K0, K1, V0, K2, V1, ...
struct TileProducer {
  AttentionBarriers& barriers;
  std::byte* memory;
  const __half* keys;  ///< of the key head
  const __half* values;
  int64_t stride;
  int length;
  ThreadVectors vectors{kPanelBytes};

  __device__ __forceinline__ void load(const __half* source, int tile, std::byte* stage) const {
    std::byte* to = stage + vectors.offset;
    const int first = tile * kKeys + vectors.first_row;
    const __half* from = source + first * stride + vectors.vector * 8;
#pragma unroll
    for (int i = 0; i < kKeys / kRowsAtOnce; ++i, from += kRowsAtOnce * stride) {
      const bool valid = first + i * kRowsAtOnce < length;
      copy_async(to + i * ThreadVectors::kStep, valid ? from : source, valid);
    }
    commit_copies();
  }
  __device__ __forceinline__ void run(int tiles) const {
    // Up to two tiles are under way: whoever waits for a place to be free needs none behind them.
    uint32_t first = 0, second = 0;  // their barriers
    const auto announce = [&](const uint64_t* full) {
      if (first != 0) {
        wait_copies<2>();
        fence_writes();
        arrive_at(first);
      }
      first = second, second = shared_address(full);
    };
    for (int tile = 0; tile <= tiles; ++tile) {
      if (tile < tiles) {
        const int stage = tile % kStages;
        wait_parity(&barriers.keys_empty[stage], tile / kStages % 2 ^ 1);
        load(keys, tile, memory + kKeysAt + stage * kTileBytes);
        announce(&barriers.keys_full[stage]);
      }
      if (tile > 0) {
        const int stage = (tile - 1) % kStages;
        wait_parity(&barriers.values_empty[stage], (tile - 1) / kStages % 2 ^ 1);
        load(values, tile - 1, memory + kValuesAt + stage * kTileBytes);
        announce(&barriers.values_full[stage]);
      }
    }
    wait_copies<0>();
    fence_writes();
    arrive_at(first);
    arrive_at(second);
  }
};

/// A thread's part of its group's 64 queries: rows g and g + 8 of its warp's sixteen, columns 8 n + 2 t and
/// the next.
struct QueryRows {
  float out[64] = {};
  float scores[64];
  uint32_t weights[2][kSteps][4];  ///< high, low
  float maximum[2] = {-INFINITY, -INFINITY}, total[2] = {};
};

/// Four elements of a query: those of the other half are the partner's, eight lanes away.
__device__ __forceinline__ float4 rotate_four(float4 mine, bool second, const float* cos, const float* sin) {
  const float own[4] = {mine.x, mine.y, mine.z, mine.w};
  float turned[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float other = __shfl_xor_sync(0xffffffffu, own[i], kRowVectors / 2);
    const Rotated r = rotate(second ? other : own[i], second ? own[i] : other, cos[i], sin[i]);
    turned[i] = second ? r.b : r.a;
  }
  return make_float4(turned[0], turned[1], turned[2], turned[3]);
}

/// The group's queries, rotated, times `factor`, to shared memory.
__device__ __forceinline__ void store_queries(const PrefillAttentionArgs& args, int64_t head,
                                              int64_t first_token, float factor, std::byte* high,
                                              std::byte* low) {
  const ThreadVectors vectors(kQueryPanelBytes);
#pragma unroll
  for (int i = 0; i < kGroupQueries / kRowsAtOnce; ++i) {
    const int64_t token = first_token + vectors.first_row + i * kRowsAtOnce;
    const int64_t existing = min(token, args.tokens - 1);
    const auto* q = reinterpret_cast<const float4*>(args.qkv + existing * args.qkv_stride + head * kDim +
                                                    vectors.vector * 8);
    const bool second = vectors.vector >= kRowVectors / 2;
    const int64_t angle = (args.first + existing) * (kDim / 2) + vectors.vector % (kRowVectors / 2) * 8;
    const float4 a = rotate_four(__ldcg(q), second, args.cos + angle, args.sin + angle);
    const float4 b = rotate_four(__ldcg(q + 1), second, args.cos + angle + 4, args.sin + angle + 4);
    uint4 h, l;
    split_pair(a.x * factor, a.y * factor, h.x, l.x);
    split_pair(a.z * factor, a.w * factor, h.y, l.y);
    split_pair(b.x * factor, b.y * factor, h.z, l.z);
    split_pair(b.z * factor, b.w * factor, h.w, l.w);
    *reinterpret_cast<uint4*>(high + vectors.offset + i * ThreadVectors::kStep) = h;
    *reinterpret_cast<uint4*>(low + vectors.offset + i * ThreadVectors::kStep) = l;
  }
}

/// scores = queries * keys, under way.
__device__ __forceinline__ void start_scores(QueryRows& rows, uint32_t queries, uint32_t keys) {
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const uint32_t column = step % 4 * 32, panel = step / 4;
    const uint32_t high = queries + panel * kQueryPanelBytes + column;
    const uint64_t b = descriptor_of(keys + panel * kPanelBytes + column);
    if (step == 0) {
      wgmma_f16<false>(rows.scores, descriptor_of(high), b);
    } else {
      wgmma_f16<true>(rows.scores, descriptor_of(high), b);
    }
    wgmma_f16<true>(rows.scores, descriptor_of(high + kQueryTileBytes), b);
  }
  wgmma_commit();
}

/// out += weights * values, under way.
__device__ __forceinline__ void start_values(QueryRows& rows, uint32_t values) {
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const uint64_t b = transposed_descriptor_of(values + step * 16 * kPanelRow, kPanelBytes);
    wgmma_f16_transposed(rows.out, rows.weights[0][step], b);
    wgmma_f16_transposed(rows.out, rows.weights[1][step], b);
  }
  wgmma_commit();
}

/// -inf for keys behind a query; `ahead`: of the tile's first key from the warp's first query.
__device__ __forceinline__ void hide_keys(QueryRows& rows, int ahead) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first = ahead + lane % 4 * 2 - lane / 4;
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    if (first + i / 4 * 8 + i % 2 > i % 4 / 2 * 8) rows.scores[i] = -INFINITY;
  }
}

/// Scores, in units of log2, become powers of two below the new maximum; `keep` is what earlier sums are
/// worth.
__device__ __forceinline__ void soften_scores(QueryRows& rows, float (&keep)[2]) {
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    float highest = rows.maximum[side];
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
      highest = fmaxf(highest, fmaxf(rows.scores[4 * n + 2 * side], rows.scores[4 * n + 2 * side + 1]));
    highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
    keep[side] = power_of_two(rows.maximum[side] - highest);  // every query sees key 0: finite
    rows.maximum[side] = highest;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = rows.scores[4 * n + 2 * side + i];
        score = power_of_two(score - highest);
        sum += score;
      }
    }
    rows.total[side] = fmaf(rows.total[side], keep[side], sum);
  }
}

__device__ __forceinline__ void split_weights(QueryRows& rows) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int part = 0; part < 4; ++part)
      split_pair(rows.scores[8 * step + 2 * part], rows.scores[8 * step + 2 * part + 1],
                 rows.weights[0][step][part], rows.weights[1][step][part]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) pin(rows.weights[half][step]);
  }
}

__device__ __forceinline__ void write_queries(const PrefillAttentionArgs& args, int64_t head,
                                              int64_t first_token, const QueryRows& rows) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    float total = rows.total[side];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    const int64_t token = first_token + lane / 4 + side * 8;
    if (token >= args.tokens) continue;
    const float inverse = __fdiv_rn(1.0f, total);
    float* out = args.out + token * args.out_stride + head * kDim + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      *reinterpret_cast<float2*>(out + n * 8) =
          make_float2(rows.out[4 * n + 2 * side] * inverse, rows.out[4 * n + 2 * side + 1] * inverse);
    }
  }
}

/// A group's pass over the tiles; `queries`: its high parts, then its low ones.
__device__ __forceinline__ void attend(QueryRows& rows, AttentionBarriers& barriers, uint32_t memory,
                                       uint32_t queries, int tiles, int64_t warp_query) {
  float keep[2];
  const auto soften_tile = [&](int tile) {
    const int64_t ahead = int64_t{tile} * kKeys - warp_query;
    if (ahead + kKeys - 1 > 0) hide_keys(rows, static_cast<int>(ahead));
    soften_scores(rows, keep);
  };
  wait_parity(&barriers.keys_full[0], 0);
  start_scores(rows, queries, memory + kKeysAt);
  wgmma_wait<0>();
  pin(rows.scores);
  arrive_at(shared_address(&barriers.keys_empty[0]));
  soften_tile(0);
  split_weights(rows);
  for (int tile = 1; tile < tiles; ++tile) {
    const int stage = tile % kStages, before = (tile - 1) % kStages;
    wait_parity(&barriers.keys_full[stage], tile / kStages % 2);
    start_scores(rows, queries, memory + kKeysAt + stage * kTileBytes);
    wait_parity(&barriers.values_full[before], (tile - 1) / kStages % 2);
    start_values(rows, memory + kValuesAt + before * kTileBytes);
    wgmma_wait<1>();
    pin(rows.scores);
    arrive_at(shared_address(&barriers.keys_empty[stage]));
    soften_tile(tile);
    wgmma_wait<0>();
    pin(rows.out);
    arrive_at(shared_address(&barriers.values_empty[before]));
#pragma unroll
    for (int i = 0; i < 64; ++i) rows.out[i] *= keep[i % 4 / 2];
    split_weights(rows);
  }
  const int last = tiles - 1;
  wait_parity(&barriers.values_full[last % kStages], last / kStages % 2);
  start_values(rows, memory + kValuesAt + last % kStages * kTileBytes);
  wgmma_wait<0>();
  pin(rows.out);
}

#endif

/// Grid: (heads, tiles of queries).
__global__ void __launch_bounds__(kThreads, 1) wgmma_attention_kernel(const PrefillAttentionArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ std::byte unaligned[];
  __shared__ AttentionBarriers barriers;
  std::byte* const memory = unaligned + (kAlignment - shared_address(unaligned) % kAlignment) % kAlignment;
  const int head = static_cast<int>(blockIdx.x);
  const int kv_head = head / (static_cast<int>(args.heads.heads) / static_cast<int>(args.heads.kv_heads));
  // The last queries see the most keys: they start first.
  const int64_t block_token = int64_t{gridDim.y - 1 - blockIdx.y} * kQueries;
  const int64_t length = args.first + min(block_token + kQueries, args.tokens);
  const int tiles = static_cast<int>((length + kKeys - 1) / kKeys);
  const int groups = args.tokens - block_token > kGroupQueries ? 2 : 1;  // that have a query
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads - 1;   // -1: the producers
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(&barriers.keys_full[i], kGroupWarps);
      init_barrier(&barriers.values_full[i], kGroupWarps);
      init_barrier(&barriers.keys_empty[i], groups * kGroupWarps);
      init_barrier(&barriers.values_empty[i], groups * kGroupWarps);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  let_next_start();
  wait_for_previous();
  if (group < 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    const TileProducer producer{barriers,
                                memory,
                                static_cast<const __half*>(args.cache.keys) + kv_head * kDim,
                                static_cast<const __half*>(args.cache.values) + kv_head * kDim,
                                args.heads.kv_heads * int64_t{kDim},
                                static_cast<int>(length)};
    producer.run(tiles);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    if (group < groups) {
      const int64_t first_token = block_token + group * kGroupQueries;
      std::byte* const queries = memory + group * 2 * kQueryTileBytes;
      store_queries(args, head, first_token, args.scale * 1.44269504f, queries, queries + kQueryTileBytes);
      fence_writes();
      sync_group(group);
      const int64_t warp_token = first_token + static_cast<int>(threadIdx.x) / kWarp % 4 * 16;
      QueryRows rows;
      attend(rows, barriers, shared_address(memory), shared_address(queries), tiles, args.first + warp_token);
      write_queries(args, head, warp_token, rows);
    }
  }
#endif
}

}  // namespace

void wgmma_attention(const PrefillAttentionArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>(args.heads.heads),
                  static_cast<unsigned>(ceil_div<int64_t>(args.tokens, kQueries)));
  launch(wgmma_attention_kernel, grid, kThreads, kSharedBytes, Start::kOverlapped, stream, args);
}

}  // namespace bitnet::cuda
