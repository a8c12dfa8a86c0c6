#pragma once

// Attention of many queries over one chunk of the cache: scores, softmax, values. See float_kernels.h for V.
//
// Keys are stored so that a vector holds 16 positions (scores need no sums across lanes), values so that it
// holds 16 dimensions. A register tile is kQueries queries times kKeyBlocks or kValueChunks vectors: each
// loaded vector serves all queries of the tile, each broadcast query element all vectors. benchmarks/kernels,
// attention/*, chose the sizes.

#include "kernels/cpu/float_kernels.h"

namespace bitnet::kernels {

template <class V>
V load_kv(const float* p) {
  return V::load(p);
}
template <class V>
V load_kv(const uint16_t* p) {
  return V::load_f16(p);
}

// Calls body(first, count constant) for tiles of kTile, 4, 2 and 1 that cover [0, queries).
template <class V, int kTile, class Body>
inline __attribute__((always_inline)) void for_query_tiles(int64_t queries, Body body) {
  int64_t i = 0;
  for (; i + kTile <= queries; i += kTile) body(i, Count<kTile>{});
  if constexpr (kTile > 4) {
    for (; i + 4 <= queries; i += 4) body(i, Count<4>{});
  }
  if constexpr (kTile > 2) {
    for (; i + 2 <= queries; i += 2) body(i, Count<2>{});
  }
  for (; i < queries; ++i) body(i, Count<1>{});
}

template <class V>
int64_t longest(const int32_t* lengths, int64_t count) {
  int64_t length = lengths[0];
  for (int64_t i = 1; i < count; ++i) length = lengths[i] > length ? lengths[i] : length;
  return length;
}
template <class V>
int64_t shortest(const int32_t* lengths, int64_t count) {
  int64_t length = lengths[0];
  for (int64_t i = 1; i < count; ++i) length = lengths[i] < length ? lengths[i] : length;
  return length;
}

// A cache that does not fit the caches of the machine comes at memory's speed only if it is asked for early:
// while scores read a line of the keys, the same line of the values is fetched, and then the next chunk's
// keys, which follow this chunk's. Beyond the cache's end a hint does nothing. attention_benchmark,
// decode_cold/*.
template <class V>
inline __attribute__((always_inline)) void fetch_ahead(const void* line, const void* from, const void* to) {
  const auto offset = static_cast<const char*>(line) - static_cast<const char*>(from);
  __builtin_prefetch(static_cast<const char*>(to) + offset, 0, 2);
}

// Scores of kQ queries with kB blocks of 16 positions.
template <class V, class T, int kQ, int kB>
void score_tile(const AttentionChunkArgs& a, int64_t query, int64_t block) {
  const int64_t block_size = a.head_dim * kLanes;
  const T* key = static_cast<const T*>(a.keys) + block * block_size;
  const float* q = a.q + query * a.q_stride;
  V sum[kQ][kB];
  BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
    BITNET_UNROLL for (int b = 0; b < kB; ++b) sum[i][b] = V::zero();
  }
  for (int64_t d = 0; d < a.head_dim; ++d, key += kLanes) {
    V k[kB];
    BITNET_UNROLL for (int b = 0; b < kB; ++b) {
      k[b] = load_kv<V>(key + b * block_size);
      fetch_ahead<V>(key + b * block_size, a.keys, a.values);
    }
    BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
      const V x = V::broadcast(q[i * a.q_stride + d]);
      BITNET_UNROLL for (int b = 0; b < kB; ++b) sum[i][b] = V::fma(x, k[b], sum[i][b]);
    }
  }
  const V scale = V::broadcast(a.scale);
  BITNET_UNROLL for (int b = 0; b < kB; ++b) {
    const int64_t position = (block + b) * kLanes;
    BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
      V::mul(sum[i][b], scale).store(a.weights + (query + i) * kAttentionChunk + position);
    }
  }
}

// kB blocks against every query tile that sees one of them: the keys stay in the first cache.
template <class V, class T, int kB>
void score_blocks(const AttentionChunkArgs& a, int64_t block) {
  for_query_tiles<V, V::kQueries>(
      a.queries, [&](int64_t i, auto count) __attribute__((always_inline)) {
        if (block * kLanes < longest<V>(a.lengths + i, count.value))
          score_tile<V, T, decltype(count)::value, kB>(a, i, block);
      });
}

template <class V, class T>
void scores(const AttentionChunkArgs& a) {
  const int64_t blocks = (longest<V>(a.lengths, a.queries) + kLanes - 1) / kLanes;
  int64_t block = 0;
  for (; block + V::kKeyBlocks <= blocks; block += V::kKeyBlocks) score_blocks<V, T, V::kKeyBlocks>(a, block);
  for (; block < blocks; ++block) score_blocks<V, T, 1>(a, block);
}

// Turns one query's scores into e^(score - max) in place, 0 up to the next multiple of 16.
template <class V>
void softmax_row(float* w, int64_t length, float* max, float* total) {
  const int64_t padded = (length + kLanes - 1) / kLanes * kLanes;
  for (int64_t p = length; p < padded; ++p) w[p] = -__builtin_inff();
  V maxima = V::load(w);
  for (int64_t p = kLanes; p < padded; p += kLanes) maxima = V::max(maxima, V::load(w + p));
  alignas(64) float lanes[kLanes];
  maxima.store(lanes);
  float maximum = lanes[0];
  for (int i = 1; i < kLanes; ++i) maximum = maximum > lanes[i] ? maximum : lanes[i];
  const V subtrahend = V::broadcast(maximum);
  V sum = V::zero();
  for (int64_t p = 0; p < padded; p += kLanes) {
    const V weight = exp(V::sub(V::load(w + p), subtrahend));
    weight.store(w + p);
    sum = V::add(sum, weight);
  }
  *max = maximum;
  *total = sum.reduce_add();
}

// Adds positions [begin, end) to kC * 16 dimensions of kQ queries.
template <class V, class T, int kQ, int kC>
void value_tile(const AttentionChunkArgs& a, int64_t query, int64_t dim, int64_t begin, int64_t end) {
  const int64_t stride = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  const T* value = static_cast<const T*>(a.values) + begin * stride + dim;
  const T* next_keys = static_cast<const T*>(a.keys) + kAttentionChunk * a.head_dim;
  const float* w = a.weights + query * kAttentionChunk;
  float* o = a.out.o + query * a.out.o_stride + dim;
  V sum[kQ][kC];
  BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
    BITNET_UNROLL for (int c = 0; c < kC; ++c) sum[i][c] = V::load(o + i * a.out.o_stride + c * kLanes);
  }
  for (int64_t p = begin; p < end; ++p, value += stride) {
    V v[kC];
    BITNET_UNROLL for (int c = 0; c < kC; ++c) {
      v[c] = load_kv<V>(value + c * kLanes);
      fetch_ahead<V>(value + c * kLanes, a.values, next_keys);
    }
    BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
      const V x = V::broadcast(w[i * kAttentionChunk + p]);
      BITNET_UNROLL for (int c = 0; c < kC; ++c) sum[i][c] = V::fma(x, v[c], sum[i][c]);
    }
  }
  BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
    BITNET_UNROLL for (int c = 0; c < kC; ++c) sum[i][c].store(o + i * a.out.o_stride + c * kLanes);
  }
}

template <class V, class T, int kQ>
void value_dims(const AttentionChunkArgs& a, int64_t query, int64_t begin, int64_t end) {
  int64_t dim = 0;
  for (; dim + V::kValueChunks * kLanes <= a.head_dim; dim += V::kValueChunks * kLanes)
    value_tile<V, T, kQ, V::kValueChunks>(a, query, dim, begin, end);
  for (; dim < a.head_dim; dim += kLanes) value_tile<V, T, kQ, 1>(a, query, dim, begin, end);
}

// A tile runs over the positions that all its queries see, then each query alone over the rest (none or few,
// since a tile's queries are heads of neighbouring tokens): a product with weight 0 would not do, because
// what it is multiplied with may be anything.
template <class V, class T>
void values(const AttentionChunkArgs& a, int64_t begin, int64_t end) {
  for_query_tiles<V, V::kQueries>(
      a.queries, [&](int64_t i, auto count) __attribute__((always_inline)) {
        constexpr int kQ = decltype(count)::value;
        const int64_t seen = shortest<V>(a.lengths + i, kQ);
        const int64_t common = seen < begin ? begin : seen < end ? seen : end;
        if (begin < common) value_dims<V, T, kQ>(a, i, begin, common);
        for (int64_t j = i; j < i + kQ; ++j) {
          const int64_t last = a.lengths[j] < end ? a.lengths[j] : end;
          if (common < last) value_dims<V, T, 1>(a, j, common, last);
        }
      });
}

// Positions whose values stay in the first cache while all queries take them: 64 rows of 128 f32 are 32 KiB.
inline constexpr int64_t kValueBlock = 64;

template <class V, class T>
void attention_chunk_of(const AttentionChunkArgs& a) {
  scores<V, T>(a);
  for (int64_t i = 0; i < a.queries; ++i) {
    float* w = a.weights + i * kAttentionChunk;
    softmax_row<V>(w, a.lengths[i], a.out.max + i, a.out.sum + i);
    for (int64_t d = 0; d < a.head_dim; d += kLanes) V::zero().store(a.out.o + i * a.out.o_stride + d);
  }
  const int64_t positions = longest<V>(a.lengths, a.queries);
  for (int64_t begin = 0; begin < positions; begin += kValueBlock)
    values<V, T>(a, begin, begin + kValueBlock < positions ? begin + kValueBlock : positions);
}

template <class V>
void attention_merge(const AttentionMergeArgs& m) {
  for (int64_t row = 0; row < m.rows; ++row) {
    const float old_max = m.total.max[row], part_max = m.part.max[row];
    const float max = old_max > part_max ? old_max : part_max;
    alignas(64) float factors[kLanes] = {old_max - max, part_max - max};
    exp(V::load(factors)).store(factors);
    const V a = V::broadcast(factors[0]), b = V::broadcast(factors[1]);
    m.total.max[row] = max;
    m.total.sum[row] = __builtin_fmaf(m.total.sum[row], factors[0], m.part.sum[row] * factors[1]);
    float* o = m.total.o + row * m.total.o_stride;
    const float* part = m.part.o + row * m.part.o_stride;
    for (int64_t d = 0; d < m.head_dim; d += kLanes)
      V::fma(V::load(o + d), a, V::mul(V::load(part + d), b)).store(o + d);
  }
}

}  // namespace bitnet::kernels
