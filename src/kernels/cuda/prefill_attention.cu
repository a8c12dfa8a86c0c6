// Causal attention of several tokens, in f32, the bits of attention_chunk and attention_merge: a block takes
// a tile of queries of one head and passes over the chunks of the cache in order, each in tiles of keys and
// then of values. 16 x 16 threads; thread (x, y) computes the scores of its queries y + 16 i and keys x + 16
// j, and the elements 4 x ... of its queries' outputs.

#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"

namespace bitnet::cuda {
namespace {

constexpr int kSide = 16;
constexpr int kThreads = kSide * kSide;
constexpr int kChunk = kernels::kAttentionChunk;
constexpr int kSkew = 4;  // floats behind a row: rows start in different banks

template <int kDimension, int kQueryTiles, int kKeyTiles>
struct Tiles {
  static constexpr int kDim = kDimension, kQ = kQueryTiles, kK = kKeyTiles;
  static constexpr int kQueries = kQ * kSide, kKeys = kK * kSide;
  static constexpr int kTiles = kChunk / kKeys;  // of a chunk
  static constexpr int kStride = kDim + kSkew, kWeightStride = kKeys + kSkew;
  static constexpr int kOut = kDim / (kSide * 4);  // float4 of an output row per thread
  static constexpr size_t kSharedBytes =
      sizeof(float) * ((kQueries + kKeys) * kStride + kQueries * kWeightStride);
};

__device__ __forceinline__ float4& at4(float* p) {
  return *reinterpret_cast<float4*>(p);
}

/// Rows [first, first + count) into shared memory, zeros beyond `valid` rows and head_dim.
template <class S, class T>
__device__ void load_rows(const T* source, int64_t stride, int count, int64_t valid, int head_dim,
                          float* rows) {
  for (int i = threadIdx.x; i < count * S::kDim; i += kThreads) {
    const int r = i / S::kDim, e = i % S::kDim;
    rows[r * S::kStride + e] = r < valid && e < head_dim ? to_float(source[r * stride + e]) : 0.0f;
  }
}

template <class S>
__device__ __forceinline__ void score_tile(float* q, float* keys, int x, int y,
                                           float (&scores)[S::kQ][S::kK]) {
#pragma unroll
  for (int i = 0; i < S::kQ; ++i) {
#pragma unroll
    for (int j = 0; j < S::kK; ++j) scores[i][j] = 0;
  }
#pragma unroll 4
  for (int e = 0; e < S::kDim; e += 4) {
    float4 k[S::kK];
#pragma unroll
    for (int j = 0; j < S::kK; ++j) k[j] = at4(keys + (x + kSide * j) * S::kStride + e);
#pragma unroll
    for (int i = 0; i < S::kQ; ++i) {
      const float4 a = at4(q + (y + kSide * i) * S::kStride + e);
#pragma unroll
      for (int j = 0; j < S::kK; ++j) {
        scores[i][j] = fmaf(a.x, k[j].x, scores[i][j]);
        scores[i][j] = fmaf(a.y, k[j].y, scores[i][j]);
        scores[i][j] = fmaf(a.z, k[j].z, scores[i][j]);
        scores[i][j] = fmaf(a.w, k[j].w, scores[i][j]);
      }
    }
  }
}

/// Over the 16 threads of a query.
template <class Combine>
__device__ __forceinline__ float side_reduce(float value, Combine combine) {
#pragma unroll
  for (int mask = kSide / 2; mask > 0; mask /= 2)
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, mask));
  return value;
}

template <class S>
__device__ __forceinline__ void add_values(float* weights, float* values, int x, int y,
                                           float4 (&out)[S::kQ][S::kOut]) {
#pragma unroll 2
  for (int j = 0; j < S::kKeys; j += 4) {
    float w[S::kQ][4];
#pragma unroll
    for (int i = 0; i < S::kQ; ++i) {
      const float4 four = at4(weights + (y + kSide * i) * S::kWeightStride + j);
      w[i][0] = four.x, w[i][1] = four.y, w[i][2] = four.z, w[i][3] = four.w;
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int o = 0; o < S::kOut; ++o) {
        const float4 v = at4(values + (j + n) * S::kStride + 4 * (x + kSide * o));
#pragma unroll
        for (int i = 0; i < S::kQ; ++i) {
          out[i][o].x = fmaf(w[i][n], v.x, out[i][o].x);
          out[i][o].y = fmaf(w[i][n], v.y, out[i][o].y);
          out[i][o].z = fmaf(w[i][n], v.z, out[i][o].z);
          out[i][o].w = fmaf(w[i][n], v.w, out[i][o].w);
        }
      }
    }
  }
}

/// What a thread holds of its queries: over the chunks joined so far, and of the chunk at hand.
template <class S>
struct State {
  float maximum[S::kQ], total[S::kQ];
  float4 out[S::kQ][S::kOut];
};

/// Scores of a whole chunk become weights e^(score - maximum); their sum is in the order of sixteen lanes,
/// since thread x holds the positions x + 16 i.
template <class S>
__device__ __forceinline__ void softmax(float (&scores)[S::kTiles][S::kQ][S::kK], State<S>& chunk) {
#pragma unroll
  for (int i = 0; i < S::kQ; ++i) {
    float highest = -INFINITY;
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < S::kK; ++j) highest = fmaxf(highest, scores[tile][i][j]);
    }
    highest = side_reduce(highest, [](float a, float b) { return fmaxf(a, b); });
    float sum = 0;
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < S::kK; ++j) {
        scores[tile][i][j] = exp_exact(scores[tile][i][j] - highest);
        sum += scores[tile][i][j];
      }
    }
    chunk.maximum[i] = highest;
    chunk.total[i] = side_reduce(sum, [](float a, float b) { return a + b; });
#pragma unroll
    for (int o = 0; o < S::kOut; ++o) chunk.out[i][o] = make_float4(0, 0, 0, 0);
  }
}

__device__ __forceinline__ float join(float old, float a, float part, float b) {
  return fmaf(old, a, __fmul_rn(part, b));
}

/// Joins the chunk to what was before (attention_merge), for query i.
template <class S>
__device__ __forceinline__ void join_chunk(const State<S>& chunk, bool first, int i, State<S>& state) {
  const float highest = first || chunk.maximum[i] >= state.maximum[i] ? chunk.maximum[i] : state.maximum[i];
  const float a = first ? 0.0f : exp_exact(state.maximum[i] - highest);
  const float b = first ? 1.0f : exp_exact(chunk.maximum[i] - highest);
  state.maximum[i] = highest;
  state.total[i] = first ? chunk.total[i] : join(state.total[i], a, chunk.total[i], b);
#pragma unroll
  for (int o = 0; o < S::kOut; ++o) {
    float4& out = state.out[i][o];
    const float4 part = chunk.out[i][o];
    out = first ? part
                : make_float4(join(out.x, a, part.x, b), join(out.y, a, part.y, b), join(out.z, a, part.z, b),
                              join(out.w, a, part.w, b));
  }
}

template <class T, class S>
__global__ void __launch_bounds__(kThreads) prefill_kernel(const PrefillAttentionArgs args) {
  extern __shared__ float shared[];
  float* q = shared;
  float* keys = q + S::kQueries * S::kStride;  // and then values
  float* weights = keys + S::kKeys * S::kStride;
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  const int head_dim = static_cast<int>(args.heads.head_dim);
  const int64_t head = blockIdx.y, kv_head = head / (args.heads.heads / args.heads.kv_heads);
  // The last tiles of queries see the most keys: they start first.
  const int64_t first_token = int64_t{gridDim.x - 1 - blockIdx.x} * S::kQueries;
  const int64_t tokens = min(int64_t{S::kQueries}, args.tokens - first_token);
  const int64_t first_query = args.first + first_token, length = first_query + tokens;
  const int64_t head_stride = kv_head_stride(head_dim), stride = args.heads.kv_heads * head_stride;
  const T* k = static_cast<const T*>(args.cache.keys) + kv_head * head_stride;
  const T* v = static_cast<const T*>(args.cache.values) + kv_head * head_stride;
  load_rows<S>(args.qkv + first_token * args.qkv_stride + head * head_dim, args.qkv_stride, S::kQueries,
               tokens, head_dim, q);
  State<S> state;
  for (int64_t begin = 0; begin < length; begin += kChunk) {
    float scores[S::kTiles][S::kQ][S::kK];
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      const int64_t first_key = begin + tile * S::kKeys;
      if (first_key < length) {
        __syncthreads();
        load_rows<S>(k + first_key * stride, stride, S::kKeys, length - first_key, head_dim, keys);
        __syncthreads();
        score_tile<S>(q, keys, x, y, scores[tile]);
      }
#pragma unroll
      for (int i = 0; i < S::kQ; ++i) {
#pragma unroll
        for (int j = 0; j < S::kK; ++j) {
          const bool seen = first_key + x + kSide * j <= first_query + y + kSide * i;
          scores[tile][i][j] = seen ? scores[tile][i][j] * args.scale : -INFINITY;
        }
      }
    }
    State<S> chunk;
    softmax<S>(scores, chunk);
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      const int64_t first_key = begin + tile * S::kKeys;
      if (first_key >= length) continue;
      __syncthreads();
      load_rows<S>(v + first_key * stride, stride, S::kKeys, length - first_key, head_dim, keys);
#pragma unroll
      for (int i = 0; i < S::kQ; ++i) {
#pragma unroll
        for (int j = 0; j < S::kK; ++j)
          weights[(y + kSide * i) * S::kWeightStride + x + kSide * j] = scores[tile][i][j];
      }
      __syncthreads();
      add_values<S>(weights, keys, x, y, chunk.out);
    }
#pragma unroll
    for (int i = 0; i < S::kQ; ++i) {
      // A query that sees nothing of the chunk keeps what it has.
      if (begin <= first_query + y + kSide * i) join_chunk<S>(chunk, begin == 0, i, state);
    }
  }
#pragma unroll
  for (int i = 0; i < S::kQ; ++i) {
    const int64_t token = y + kSide * i;
    if (token >= tokens) continue;
    const float inverse = __fdiv_rn(1.0f, state.total[i]);
    float* row = args.out + (first_token + token) * args.out_stride + head * head_dim;
#pragma unroll
    for (int o = 0; o < S::kOut; ++o) {
      const float four[4] = {state.out[i][o].x, state.out[i][o].y, state.out[i][o].z, state.out[i][o].w};
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int e = 4 * (x + kSide * o) + n;
        if (e < head_dim) row[e] = four[n] * inverse;
      }
    }
  }
}

template <class T, class S>
void run_tiles(const PrefillAttentionArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.tokens, S::kQueries)),
                  static_cast<unsigned>(args.heads.heads));
  launch(prefill_kernel<T, S>, grid, kThreads, S::kSharedBytes, Start::kAfterPrevious, stream, args);
}

}  // namespace

void prefill_attention(const PrefillAttentionArgs& args, Stream stream) {
  for_kv_type(args.cache.dtype, [&](auto type) {
    using T = typename decltype(type)::Element;
    if (args.heads.head_dim <= 64) return run_tiles<T, Tiles<64, 4, 4>>(args, stream);
    if (args.heads.head_dim <= 128) return run_tiles<T, Tiles<128, 4, 4>>(args, stream);
    run_tiles<T, Tiles<256, 2, 2>>(args, stream);
  });
}

}  // namespace bitnet::cuda
