#pragma once

// Attention over a kI8 cache, in integers: four dimensions (scores) or positions (values) of one lane lie
// side by side, as the byte dot products of the instruction sets want them. See attention_kernels.h.
//
// V::I8Dots (i8_dots.h of each set) provides
//   Keys, Values    64 bytes of the cache, loaded
//   Query, Weights  four bytes of a query, or the two digits of four weights, for all lanes
//   ScoreSum        16 sums; add(Keys, Query); total(sum of the query) as V
//   ValueSum        16 sums; add(Values, Weights); total() as V
// and tile sizes.

#include "kernels/cpu/attention_kernels.h"

namespace bitnet::kernels {

template <class V, int kQ, int kB>
void score_i8_tile(const AttentionChunkArgs& a, int64_t query, int64_t block) {
  using Dots = typename V::I8Dots;
  const int64_t block_bytes = (a.head_dim + 3) / 4 * 64;
  const int8_t* key = static_cast<const int8_t*>(a.keys) + block * block_bytes;
  const int8_t* q = a.q8 + query * a.q_stride;
  typename Dots::ScoreSum sum[kQ][kB];
  for (int64_t d = 0; d < a.head_dim; d += 4, key += 64) {
    typename Dots::Keys k[kB];
    BITNET_UNROLL for (int b = 0; b < kB; ++b) k[b] = Dots::keys(key + b * block_bytes);
    BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
      const typename Dots::Query x = Dots::query(q + i * a.q_stride + d);
      BITNET_UNROLL for (int b = 0; b < kB; ++b) sum[i][b].add(k[b], x);
    }
  }
  BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
    const V scale = V::broadcast(a.q_scale[query + i] * a.scale);
    float* scores = a.weights + (query + i) * kAttentionChunk + block * kLanes;
    BITNET_UNROLL for (int b = 0; b < kB; ++b) {
      const V factor = V::mul(V::load(a.key_scale + (block + b) * kLanes), scale);
      V::mul(sum[i][b].total(a.q_sum[query + i]), factor).store(scores + b * kLanes);
    }
  }
}

template <class V, int kB>
void score_i8_blocks(const AttentionChunkArgs& a, int64_t block) {
  for_query_tiles<V, V::I8Dots::kQueries>(
      a.queries, [&](int64_t i, auto count) __attribute__((always_inline)) {
        if (block * kLanes < longest<V>(a.lengths + i, count.value))
          score_i8_tile<V, decltype(count)::value, kB>(a, i, block);
      });
}

template <class V>
void scores_i8(const AttentionChunkArgs& a) {
  constexpr int kBlocks = V::I8Dots::kKeyBlocks;
  const int64_t blocks = (longest<V>(a.lengths, a.queries) + kLanes - 1) / kLanes;
  int64_t block = 0;
  for (; block + kBlocks <= blocks; block += kBlocks) score_i8_blocks<V, kBlocks>(a, block);
  for (; block < blocks; ++block) score_i8_blocks<V, 1>(a, block);
}

// Replaces a row of weights by the digits of W_p: kAttentionChunk high ones, then the low ones, 0 where the
// query sees nothing. Returns m / 16383. high = (W - W mod 128) / 128 without a tie: W / 128 - 63.5 / 128 is
// never halfway.
template <class V>
float quantize_weights(float* w, int64_t length, const float* value_scale) {
  const int64_t padded = (length + kLanes - 1) / kLanes * kLanes;
  V magnitudes = V::zero();
  for (int64_t p = 0; p < padded; p += kLanes) {
    V::mul(V::load(w + p), V::load(value_scale + p)).store(w + p);
    for (int64_t unseen = length; unseen < p + kLanes; ++unseen) w[unseen] = 0;
    magnitudes = V::max_magnitude(magnitudes, V::load(w + p));
  }
  const float largest = largest_magnitude(magnitudes);
  const bool usable = largest > 0 && largest <= 0x1.fffffep+127f;
  const V factor = V::broadcast(kAttentionWeightMax / largest), magic = V::broadcast(kRoundMagic);
  alignas(64) int8_t digits[2 * kAttentionChunk] = {};
  for (int64_t p = 0; usable && p < padded; p += kLanes) {
    const V rounded = V::sub(V::add(V::mul(V::load(w + p), factor), magic), magic);
    const V shifted = V::fma(rounded, V::broadcast(0x1p-7f), V::broadcast(-63.5f / 128));
    const V high = V::sub(V::add(shifted, magic), magic);
    high.store_i8(digits + p);
    V::fma(high, V::broadcast(-128.0f), rounded).store_i8(digits + kAttentionChunk + p);
  }
  __builtin_memcpy(w, digits, sizeof digits);
  return largest / kAttentionWeightMax;
}

// All positions up to `length` (a multiple of 4) for kC * 16 dimensions of kQ queries.
template <class V, int kQ, int kC>
void value_i8_tile(const AttentionChunkArgs& a, const float* factors, int64_t query, int64_t dim,
                   int64_t length) {
  using Dots = typename V::I8Dots;
  const int64_t stride = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  const int8_t* value = static_cast<const int8_t*>(a.values) + 4 * dim;
  const auto* w = reinterpret_cast<const int8_t*>(a.weights + query * kAttentionChunk);
  typename Dots::ValueSum sum[kQ][kC];
  for (int64_t p = 0; p < length; p += 4, value += 4 * stride) {
    typename Dots::Values v[kC];
    BITNET_UNROLL for (int c = 0; c < kC; ++c) v[c] = Dots::values(value + 64 * c);
    BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
      const int8_t* high = w + i * int64_t{sizeof(float)} * kAttentionChunk + p;
      const typename Dots::Weights x = Dots::weights(high, high + kAttentionChunk);
      BITNET_UNROLL for (int c = 0; c < kC; ++c) sum[i][c].add(v[c], x);
    }
  }
  BITNET_UNROLL for (int i = 0; i < kQ; ++i) {
    float* o = a.out.o + (query + i) * a.out.o_stride + dim;
    BITNET_UNROLL for (int c = 0; c < kC; ++c) V::mul(sum[i][c].total(), V::broadcast(factors[i]))
        .store(o + c * kLanes);
  }
}

template <class V, int kC>
void values_i8(const AttentionChunkArgs& a, int64_t dim) {
  for_query_tiles<V, V::I8Dots::kQueries>(
      a.queries, [&](int64_t i, auto count) __attribute__((always_inline)) {
        constexpr int kQ = decltype(count)::value;
        float factors[kQ];
        for (int j = 0; j < kQ; ++j) factors[j] = a.out.o[(i + j) * a.out.o_stride + dim];
        const int64_t length = (longest<V>(a.lengths + i, kQ) + 3) / 4 * 4;
        value_i8_tile<V, kQ, kC>(a, factors, i, dim, length);
      });
}

template <class V>
void attention_chunk_i8(const AttentionChunkArgs& a) {
  constexpr int kChunks = V::I8Dots::kValueChunks;
  scores_i8<V>(a);
  for (int64_t i = 0; i < a.queries; ++i) {
    float* w = a.weights + i * kAttentionChunk;
    softmax_row<V>(w, a.lengths[i], a.out.max + i, a.out.sum + i);
    const V factor = V::broadcast(quantize_weights<V>(w, a.lengths[i], a.value_scale));
    // Kept in the output itself until the tile that overwrites it.
    for (int64_t d = 0; d < a.head_dim; d += kLanes) factor.store(a.out.o + i * a.out.o_stride + d);
  }
  int64_t dim = 0;
  for (; dim + kChunks * kLanes <= a.head_dim; dim += kChunks * kLanes) values_i8<V, kChunks>(a, dim);
  for (; dim < a.head_dim; dim += kLanes) values_i8<V, 1>(a, dim);
}

template <class V>
void attention_chunk(const AttentionChunkArgs& a) {
  switch (a.kv_type) {
    case DType::kF32:
      return attention_chunk_of<V, float>(a);
    case DType::kF16:
      return attention_chunk_of<V, uint16_t>(a);
    case DType::kI8:
      return attention_chunk_i8<V>(a);
    default:
      __builtin_trap();  // callers check the type (kernel_table.h)
  }
}

}  // namespace bitnet::kernels
