// RoPE, storing and attention over an i8 cache, in integers: the bits of kernel_table.h's kI8. Three kernels:
// one rotates q in place and stores keys and values as int8; one computes a chunk of 256 positions for some
// queries of a key head; one joins the chunks in order.

#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = kernels::kAttentionChunk;
static_assert(kThreads == kChunk, "a thread has a position of the chunk");
// Queries of a block, heads that share keys: of one new token, of one token or several.
constexpr int kFewQueries = 4, kMostQueries = 16;
constexpr int kStoreHeads = 8, kStoreThreads = kStoreHeads * kWarp;
constexpr int kWords = kMaxHeadDim / 4;  // of four dimensions
constexpr int kGroups = kChunk / 4;      // of four positions
constexpr float kWeightMax = kernels::kAttentionWeightMax;

/// Where a token's keys and values go, and its row of qkv.
__device__ __forceinline__ DecodeRow token_of(const I8AttentionArgs& args, int64_t token) {
  if (args.rows != nullptr) return args.rows[token];
  return {args.keys, args.values, static_cast<int32_t>(token), static_cast<int32_t>(args.first + token)};
}

struct Layer8 {
  int8_t* data;
  float* scales;  ///< [kv_heads][positions]
};
__device__ __forceinline__ Layer8 layer_of(const I8AttentionArgs& args, void* cache) {
  const int64_t elements = args.positions * args.heads.kv_heads * kv_head_stride(args.heads.head_dim);
  auto* const bytes = static_cast<int8_t*>(cache);
  auto* const scales = reinterpret_cast<float*>(bytes + args.layers * elements);
  return {bytes + args.layer * elements, scales + args.layer * args.heads.kv_heads * args.positions};
}

/// 127 / the largest magnitude of the warp's values.
__device__ __forceinline__ float warp_scale(uint32_t magnitude) {
  magnitude = __reduce_max_sync(0xffffffffu, max(magnitude, __float_as_uint(1e-5f)));
  return __fdiv_rn(127.0f, __uint_as_float(magnitude));
}
__device__ __forceinline__ uint32_t magnitude_of(float value) {
  return __float_as_uint(value) & 0x7fffffffu;
}
/// A row that is not finite has zeros and a factor that makes them NaN.
__device__ __forceinline__ int8_t quantized(float value, float scale) {
  return scale > 0 ? static_cast<int8_t>(__float2int_rn(__fmul_rn(value, scale))) : int8_t{0};
}

/// A key's or a value's element d in its layer: keys by positions, values by fours of positions.
__device__ __forceinline__ int64_t key_offset(const Heads& heads, int64_t position, int head, int d) {
  return (position * heads.kv_heads + head) * kv_head_stride(heads.head_dim) + d;
}
__device__ __forceinline__ int64_t value_offset(const Heads& heads, int64_t position, int head, int d) {
  return ((position / 4 * heads.kv_heads + head) * kv_head_stride(heads.head_dim) + d) * 4 + position % 4;
}

/// Grid: (tokens, heads of q, k and v by eights); a warp takes a head.
__global__ void __launch_bounds__(kStoreThreads) i8_store_kernel(const I8AttentionArgs args) {
  const Heads heads = args.heads;
  const int head_dim = static_cast<int>(heads.head_dim), half = head_dim / 2, lane = threadIdx.x % kWarp;
  const int head = static_cast<int>(blockIdx.y) * kStoreHeads + static_cast<int>(threadIdx.x) / kWarp;
  const int key = head - static_cast<int>(heads.heads), value = key - static_cast<int>(heads.kv_heads);
  let_next_start();
  wait_for_previous();
  if (value >= heads.kv_heads) return;
  const DecodeRow token = token_of(args, blockIdx.x);
  float* x = args.qkv + token.row * args.qkv_stride + head * head_dim;
  const float* cos = args.cos + int64_t{token.position} * half;
  const float* sin = args.sin + int64_t{token.position} * half;
  Rotated pairs[kMaxHeadDim / 2 / kWarp];
  uint32_t magnitude = 0;
#pragma unroll
  for (int n = 0; n < kMaxHeadDim / 2 / kWarp; ++n) {
    const int i = lane + n * kWarp;
    if (i >= half) break;
    pairs[n] = value >= 0 ? Rotated{x[i], x[i + half]} : rotate(x[i], x[i + half], cos[i], sin[i]);
    magnitude = max(magnitude, max(magnitude_of(pairs[n].a), magnitude_of(pairs[n].b)));
    if (key >= 0) continue;
    x[i] = pairs[n].a;
    x[i + half] = pairs[n].b;
  }
  if (key < 0) return;
  const float scale = warp_scale(magnitude);
  const Layer8 layer = layer_of(args, value >= 0 ? token.values : token.keys);
  const int kv_head = value >= 0 ? value : key;
#pragma unroll
  for (int n = 0; n < kMaxHeadDim / 2 / kWarp; ++n) {
    const int i = lane + n * kWarp;
    if (i >= half) break;
    const int8_t a = quantized(pairs[n].a, scale), b = quantized(pairs[n].b, scale);
    if (value >= 0) {
      layer.data[value_offset(heads, token.position, kv_head, i)] = a;
      layer.data[value_offset(heads, token.position, kv_head, i + half)] = b;
    } else {
      layer.data[key_offset(heads, token.position, kv_head, i)] = a;
      layer.data[key_offset(heads, token.position, kv_head, i + half)] = b;
    }
  }
  if (lane == 0) layer.scales[kv_head * args.positions + token.position] = __fdiv_rn(1.0f, scale);
}

template <int kQueries>
struct I8Shared {
  int4 q[kQueries][kWords / 4 + 1];  // one more: rows start in different banks
  float q_scale[kQueries];
  int length[kQueries];  ///< positions of the chunk that a query sees
  int head[kQueries];    ///< among all; -1: no query
  int64_t token[kQueries];
  float weights[kQueries][kChunk];
  float value_scale[kChunk];
  /// Digits of W, four positions a word; one more as above.
  int4 high[kQueries][kGroups / 4 + 1], low[kQueries][kGroups / 4 + 1];
  float factor[kQueries], maximum[kQueries], total[kQueries];
};

/// Which queries the block has: grid (chunks, key heads by slices of at most kQueries query heads, tokens).
template <int kQueries>
__device__ void assign_queries(const I8AttentionArgs& args, I8Shared<kQueries>& s) {
  const int group = static_cast<int>(args.heads.heads / args.heads.kv_heads);
  const int slices = (group + kQueries - 1) / kQueries;
  const int in_slice = min(group, kQueries);
  const int i = static_cast<int>(threadIdx.x);
  if (i >= kQueries) return;
  const int kv_head = static_cast<int>(blockIdx.y) / slices, slice = static_cast<int>(blockIdx.y) % slices;
  const int of_group = slice * kQueries + i % in_slice;
  const int64_t token = int64_t{blockIdx.z} * args.block_tokens + i / in_slice;
  const bool is_query = i / in_slice < args.block_tokens && token < args.tokens && of_group < group;
  s.head[i] = is_query ? kv_head * group + of_group : -1;
  s.token[i] = is_query ? token : 0;
  const int seen = is_query ? token_of(args, token).position + 1 - static_cast<int>(blockIdx.x) * kChunk : 0;
  s.length[i] = max(0, min(seen, kChunk));
}

/// Two queries a warp: their int8 digits into shared memory.
template <int kQueries>
__device__ void quantize_queries(const I8AttentionArgs& args, I8Shared<kQueries>& s) {
  const int lane = threadIdx.x % kWarp, head_dim = static_cast<int>(args.heads.head_dim);
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < kQueries; i += kThreads / kWarp) {
    auto* const bytes = reinterpret_cast<int8_t*>(s.q[i]);
    const bool is_query = s.length[i] > 0;
    const float* x =
        args.qkv + token_of(args, s.token[i]).row * args.qkv_stride + max(s.head[i], 0) * head_dim;
    uint32_t magnitude = 0;
    for (int d = lane; is_query && d < head_dim; d += kWarp) magnitude = max(magnitude, magnitude_of(x[d]));
    const float scale = warp_scale(magnitude);
    for (int d = lane; d < kMaxHeadDim; d += kWarp)
      bytes[d] = is_query && d < head_dim ? quantized(x[d], scale) : int8_t{0};
    if (lane == 0) s.q_scale[i] = __fdiv_rn(1.0f, scale);
  }
}

__device__ __forceinline__ float score_of(const I8AttentionArgs& args, int sum, float key_scale,
                                          float q_scale) {
  return __fmul_rn(static_cast<float>(sum), __fmul_rn(key_scale, __fmul_rn(q_scale, args.scale)));
}

/// A thread's position for all of few queries.
template <int kQueries>
__device__ void score_position(const I8AttentionArgs& args, const Layer8& keys, int kv_head, int longest,
                               I8Shared<kQueries>& s) {
  const int p = static_cast<int>(threadIdx.x);
  if (p >= longest) return;
  const int64_t position = int64_t{blockIdx.x} * kChunk + p;
  const auto* key = reinterpret_cast<const int2*>(keys.data + key_offset(args.heads, position, kv_head, 0));
  const int pairs = static_cast<int>(kv_head_stride(args.heads.head_dim)) / 8;
  int sums[kQueries] = {};
#pragma unroll 4
  for (int w = 0; w < pairs; ++w) {
    const int2 k = key[w];
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      const int2 q = reinterpret_cast<const int2*>(s.q[i])[w];  // zeros behind head_dim
      sums[i] = __dp4a(k.y, q.y, __dp4a(k.x, q.x, sums[i]));
    }
  }
  const float key_scale = keys.scales[kv_head * args.positions + position];
#pragma unroll
  for (int i = 0; i < kQueries; ++i) s.weights[i][p] = score_of(args, sums[i], key_scale, s.q_scale[i]);
}

/// The operand of 16 rows and words 8 step ... 8 step + 7 of a product on the tensor cores.
template <int kStride>
__device__ __forceinline__ void load_rows(const int4 (&rows)[kMostQueries][kStride], int step,
                                          uint32_t (&a)[4]) {
  const int lane = threadIdx.x % kWarp, word = 8 * step + lane % 4;
  const auto* low = reinterpret_cast<const uint32_t*>(rows[lane / 4]);
  const auto* high = reinterpret_cast<const uint32_t*>(rows[lane / 4 + 8]);
  a[0] = low[word], a[1] = high[word], a[2] = low[word + 4], a[3] = high[word + 4];
}

/// The same scores on the tensor cores: a warp has 32 positions of all sixteen queries.
__device__ void score_tiles(const I8AttentionArgs& args, const Layer8& keys, int kv_head, int longest,
                            I8Shared<kMostQueries>& s) {
  const int lane = threadIdx.x % kWarp, first = static_cast<int>(threadIdx.x) / kWarp * kWarp;
  const int words = static_cast<int>(kv_head_stride(args.heads.head_dim)) / 4;
  const int64_t begin = int64_t{blockIdx.x} * kChunk;
#pragma unroll
  for (int tile = 0; tile < kWarp; tile += 8) {
    if (first + tile >= longest) return;
    const int of_lane = first + tile + lane / 4;  // the position whose key it loads
    const auto* key =
        reinterpret_cast<const int*>(keys.data + key_offset(args.heads, begin + of_lane, kv_head, 0));
    int sums[4] = {};
    for (int step = 0; 8 * step < words; ++step) {
      const int word = 8 * step + lane % 4;
      uint32_t a[4];
      load_rows(s.q, step, a);  // zeros behind head_dim
      const bool seen = of_lane < longest;
      mma_s8(sums, a, seen && word < words ? key[word] : 0, seen && word + 4 < words ? key[word + 4] : 0);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int p = first + tile + lane % 4 * 2 + n % 2, query = lane / 4 + n / 2 * 8;
      if (p >= longest) continue;
      const float key_scale = keys.scales[kv_head * args.positions + begin + p];
      s.weights[query][p] = score_of(args, sums[n], key_scale, s.q_scale[query]);
    }
  }
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, mask);
    value = value > other ? value : other;
  }
  return value;
}

/// A warp's query: scores become weights, their total in the order of sixteen lanes, and the digits of W.
template <int kQueries>
__device__ void weigh(int i, I8Shared<kQueries>& s) {
  const int lane = threadIdx.x % kWarp, length = s.length[i];
  float* w = s.weights[i];
  float maximum = -INFINITY;
  for (int p = lane; p < length; p += kWarp) maximum = maximum > w[p] ? maximum : w[p];
  maximum = warp_max(maximum);
  uint32_t magnitude = 0;
  float total = 0;
  // Lanes 0 to 15 have the positions of their number modulo 16, one half of the chunk after the other.
  for (int p = lane; p < kChunk; p += kWarp) {
    const float weight = p < length ? exp_exact(w[p] - maximum) : 0.0f;
    const float upper = __shfl_down_sync(0xffffffffu, weight, 16);
    total += weight;
    total += upper;
    w[p] = p < length ? __fmul_rn(weight, s.value_scale[p]) : 0.0f;
    magnitude = max(magnitude, magnitude_of(w[p]));
  }
#pragma unroll
  for (int mask = 8; mask > 0; mask /= 2) total += __shfl_xor_sync(0xffffffffu, total, mask);
  const float largest = __uint_as_float(__reduce_max_sync(0xffffffffu, magnitude));
  const bool usable = largest > 0 && largest <= 0x1.fffffep+127f;
  const float factor = usable ? __fdiv_rn(kWeightMax, largest) : 0.0f;
  for (int p = lane; p < kChunk; p += kWarp) {
    const int digits = usable ? __float2int_rn(__fmul_rn(w[p], factor)) : 0;
    reinterpret_cast<int8_t*>(s.high[i])[p] = static_cast<int8_t>(digits >> 7);
    reinterpret_cast<int8_t*>(s.low[i])[p] = static_cast<int8_t>(digits & 127);
  }
  if (lane != 0) return;
  s.factor[i] = __fdiv_rn(largest, kWeightMax);
  s.maximum[i] = maximum;
  s.total[i] = total;
}

/// Elements of a query's chunk, and behind them maximum and total.
__device__ __forceinline__ float* partial_of(const I8AttentionArgs& args, int64_t token, int head,
                                             int64_t chunk) {
  const int64_t part = (token * args.heads.heads + head) * args.max_chunks + chunk;
  return args.partial + part * (args.heads.head_dim + 2);
}

template <int kQueries>
__device__ __forceinline__ void store_element(const I8AttentionArgs& args, const I8Shared<kQueries>& s,
                                              int query, int d, int high, int low) {
  if (s.length[query] == 0) return;
  partial_of(args, s.token[query], s.head[query], blockIdx.x)[d] =
      __fmul_rn(static_cast<float>(high * 128 + low), s.factor[query]);
}

/// A thread has one dimension of half the queries.
template <int kQueries>
__device__ void add_values(const I8AttentionArgs& args, const Layer8& values, int kv_head, int longest,
                           const I8Shared<kQueries>& s) {
  constexpr int kHalf = kQueries / 2, kDims = kThreads / 2;
  const int first = static_cast<int>(threadIdx.x) / kDims * kHalf;
  const int head_dim = static_cast<int>(args.heads.head_dim);
  const int64_t stride = args.heads.kv_heads * kv_head_stride(head_dim);  // words of four positions
  for (int d = static_cast<int>(threadIdx.x) % kDims; d < head_dim; d += kDims) {
    const int64_t begin = value_offset(args.heads, int64_t{blockIdx.x} * kChunk, kv_head, d);
    const auto* value = reinterpret_cast<const int*>(values.data + begin);
    int high[kHalf] = {}, low[kHalf] = {};
    for (int g = 0; g < (longest + 15) / 16; ++g) {
      int v[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) v[n] = 16 * g + 4 * n < longest ? value[(4 * g + n) * stride] : 0;
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const int4 h = s.high[first + i][g], l = s.low[first + i][g];
        high[i] = __dp4a(h.w, v[3], __dp4a(h.z, v[2], __dp4a(h.y, v[1], __dp4a(h.x, v[0], high[i]))));
        low[i] = __dp4a(l.w, v[3], __dp4a(l.z, v[2], __dp4a(l.y, v[1], __dp4a(l.x, v[0], low[i]))));
      }
    }
#pragma unroll
    for (int i = 0; i < kHalf; ++i) store_element(args, s, first + i, d, high[i], low[i]);
  }
}

/// The same on the tensor cores: a warp has eight dimensions at a time of all sixteen queries.
__device__ void value_tiles(const I8AttentionArgs& args, const Layer8& values, int kv_head, int longest,
                            const I8Shared<kMostQueries>& s) {
  const int lane = threadIdx.x % kWarp, head_dim = static_cast<int>(args.heads.head_dim);
  const int64_t stride = args.heads.kv_heads * kv_head_stride(head_dim);  // words of four positions
  const int64_t begin = value_offset(args.heads, int64_t{blockIdx.x} * kChunk, kv_head, 0);
  for (int tile = static_cast<int>(threadIdx.x) / kWarp * 8; tile < head_dim; tile += kThreads / kWarp * 8) {
    // The stride of heads is a multiple of eight: the tile's last dimensions lie in the cache.
    const auto* value = reinterpret_cast<const int*>(values.data + begin) + tile + lane / 4;
    int high[4] = {}, low[4] = {};
#pragma unroll 2
    for (int step = 0; 32 * step < longest; ++step) {
      const int group = 8 * step + lane % 4;
      const int v0 = 4 * group < longest ? value[group * stride] : 0;
      const int v1 = 4 * (group + 4) < longest ? value[(group + 4) * stride] : 0;
      uint32_t a[4];
      load_rows(s.high, step, a);
      mma_s8(high, a, v0, v1);
      load_rows(s.low, step, a);
      mma_s8(low, a, v0, v1);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int d = tile + lane % 4 * 2 + n % 2;
      if (d < head_dim) store_element(args, s, lane / 4 + n / 2 * 8, d, high[n], low[n]);
    }
  }
}

template <int kQueries>
__global__ void __launch_bounds__(kThreads) i8_chunk_kernel(const I8AttentionArgs args) {
  __shared__ I8Shared<kQueries> s;
  wait_for_previous();
  assign_queries(args, s);
  __syncthreads();
  int longest = 0;
  for (int i = 0; i < kQueries; ++i) longest = max(longest, s.length[i]);
  if (longest == 0) return;
  const int group = static_cast<int>(args.heads.heads / args.heads.kv_heads);
  const int kv_head = static_cast<int>(blockIdx.y) / ((group + kQueries - 1) / kQueries);
  const DecodeRow token = token_of(args, int64_t{blockIdx.z} * args.block_tokens);  // all share its cache
  const Layer8 values = layer_of(args, token.values);
  quantize_queries(args, s);
  if (static_cast<int>(threadIdx.x) < longest) {
    const int64_t position = int64_t{blockIdx.x} * kChunk + threadIdx.x;
    s.value_scale[threadIdx.x] = values.scales[kv_head * args.positions + position];
  }
  __syncthreads();
  const Layer8 keys = layer_of(args, token.keys);
  if constexpr (kQueries == kMostQueries) {
    score_tiles(args, keys, kv_head, longest, s);
  } else {
    score_position(args, keys, kv_head, longest, s);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < kQueries; i += kThreads / kWarp) weigh(i, s);
  __syncthreads();
  if constexpr (kQueries == kMostQueries) {
    value_tiles(args, values, kv_head, longest, s);
  } else {
    add_values(args, values, kv_head, longest, s);
  }
  if (threadIdx.x >= kQueries || s.length[threadIdx.x] == 0) return;
  float* out = partial_of(args, s.token[threadIdx.x], s.head[threadIdx.x], blockIdx.x) + args.heads.head_dim;
  out[0] = s.maximum[threadIdx.x];
  out[1] = s.total[threadIdx.x];
}

/// Grid: (tokens, query heads); a thread has elements of the output.
__global__ void __launch_bounds__(kThreads) i8_join_kernel(const I8AttentionArgs args) {
  const int64_t token = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y), head_dim = static_cast<int>(args.heads.head_dim);
  let_next_start();
  wait_for_previous();
  const DecodeRow row = token_of(args, token);
  const float* part = partial_of(args, token, head, 0);
  const int chunks = row.position / kChunk + 1;
  for (int d = threadIdx.x; d < head_dim; d += kThreads) {
    float o = part[d], maximum = part[head_dim], total = part[head_dim + 1];
    for (int c = 1; c < chunks; ++c) {
      const float* next = part + c * (head_dim + 2);
      const float larger = maximum > next[head_dim] ? maximum : next[head_dim];
      const float a = exp_exact(maximum - larger), b = exp_exact(next[head_dim] - larger);
      maximum = larger;
      total = fmaf(total, a, __fmul_rn(next[head_dim + 1], b));
      o = fmaf(o, a, __fmul_rn(next[d], b));
    }
    args.out[row.row * args.out_stride + head * head_dim + d] = __fmul_rn(o, __fdiv_rn(1.0f, total));
  }
}

/// A warp a head of a position; positions in order, so that none is overwritten before it has moved.
__global__ void __launch_bounds__(kWarp) i8_shift_kernel(const I8ShiftArgs args) {
  const Heads heads = args.heads;
  const int head_dim = static_cast<int>(heads.head_dim), half = head_dim / 2, lane = threadIdx.x;
  const int head = static_cast<int>(blockIdx.x), layer = static_cast<int>(blockIdx.y);
  const I8AttentionArgs place = {
      .heads = heads, .positions = args.positions, .layers = gridDim.y, .layer = layer};
  const Layer8 keys = layer_of(place, args.keys), values = layer_of(place, args.values);
  float* key_scales = keys.scales + head * args.positions;
  float* value_scales = values.scales + head * args.positions;
  for (int64_t from = args.from; from < args.end; ++from) {
    const int64_t to = from - args.count;
    const float old_scale = key_scales[from];
    Rotated pairs[kMaxHeadDim / 2 / kWarp];
    uint32_t magnitude = 0;
    for (int i = lane, n = 0; i < half; i += kWarp, ++n) {
      const auto a = static_cast<float>(keys.data[key_offset(heads, from, head, i)]);
      const auto b = static_cast<float>(keys.data[key_offset(heads, from, head, i + half)]);
      pairs[n] = rotate(__fmul_rn(a, old_scale), __fmul_rn(b, old_scale), args.cos[i], args.sin[i]);
      magnitude = max(magnitude, max(magnitude_of(pairs[n].a), magnitude_of(pairs[n].b)));
      values.data[value_offset(heads, to, head, i)] = values.data[value_offset(heads, from, head, i)];
      values.data[value_offset(heads, to, head, i + half)] =
          values.data[value_offset(heads, from, head, i + half)];
    }
    const float scale = warp_scale(magnitude);
    for (int i = lane, n = 0; i < half; i += kWarp, ++n) {
      keys.data[key_offset(heads, to, head, i)] = quantized(pairs[n].a, scale);
      keys.data[key_offset(heads, to, head, i + half)] = quantized(pairs[n].b, scale);
    }
    __syncwarp();
    if (lane == 0) {
      key_scales[to] = __fdiv_rn(1.0f, scale);
      value_scales[to] = value_scales[from];
    }
  }
}

template <int kQueries>
void attend_chunks(I8AttentionArgs args, Stream stream) {
  const int64_t group = args.heads.heads / args.heads.kv_heads;
  args.block_tokens = args.rows != nullptr ? 1 : std::max<int64_t>(kQueries / group, 1);
  const dim3 grid(static_cast<unsigned>(args.max_chunks),
                  static_cast<unsigned>(args.heads.kv_heads * ceil_div<int64_t>(group, kQueries)),
                  static_cast<unsigned>(ceil_div(args.tokens, args.block_tokens)));
  launch(i8_chunk_kernel<kQueries>, grid, kThreads, 0, Start::kOverlapped, stream, args);
}

}  // namespace

void i8_attention(const I8AttentionArgs& args, Stream stream) {
  const auto tokens = static_cast<unsigned>(args.tokens);
  const int64_t all_heads = args.heads.heads + 2 * args.heads.kv_heads;
  launch(i8_store_kernel, dim3(tokens, static_cast<unsigned>(ceil_div<int64_t>(all_heads, kStoreHeads))),
         kStoreThreads, 0, Start::kOverlapped, stream, args);
  if (args.rows != nullptr && args.heads.heads <= kFewQueries * args.heads.kv_heads) {
    attend_chunks<kFewQueries>(args, stream);
  } else {
    attend_chunks<kMostQueries>(args, stream);
  }
  launch(i8_join_kernel, dim3(tokens, static_cast<unsigned>(args.heads.heads)), kThreads, 0,
         Start::kOverlapped, stream, args);
}

void i8_shift(const I8ShiftArgs& args, Stream stream) {
  launch(i8_shift_kernel,
         dim3(static_cast<unsigned>(args.heads.kv_heads), static_cast<unsigned>(args.layers)), kWarp, 0,
         Start::kAfterPrevious, stream, args);
}

}  // namespace bitnet::cuda
