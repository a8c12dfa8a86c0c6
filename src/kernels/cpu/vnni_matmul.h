#pragma once

// Ternary matrix times int8 activations with vpdpbusd (u8 codes x s8 activations, four products added into
// int32 without saturation), written once over a vector V of 16 or 8 rows. Codes are trit + 1, so sum_k q[k]
// is subtracted at the end.
//
// V provides: kRows; kAccumulators, kMaskedAccumulators (what the registers hold); Int (the register); zero,
// load, add, shift_right (arithmetic, of int32); broadcast4 (four activations as every dword); mask(x, s):
// bits 2s and 2s + 1 of each byte in place, and code(x, s): shifted down; dot(sum, codes, activations);
// store_rows(args, token, first row, code sums). Vectors are numbered from row 0: vector v holds rows [v
// kRows, (v + 1) kRows).

#include "kernels/cpu/float_kernels.h"
#include "kernels/kernel_table.h"

#include <cstdint>

namespace bitnet::kernels {

template <class V>
constexpr int64_t kVectorsPerGroup = 16 / V::kRows;

// From one vector of a tile to the next: a tile is vectors of one group, or one vector of each of several.
template <class V>
int64_t vector_stride(int64_t group_bytes) {
  return kVectorsPerGroup<V> == 1 ? group_bytes : 4 * V::kRows;
}

template <class V>
const uint8_t* vector_at(const TernaryMatmulArgs& a, int64_t vector) {
  return a.weights + vector / kVectorsPerGroup<V> * (a.padded_cols * 4) +
         vector % kVectorsPerGroup<V> * (4 * V::kRows);
}

// How far ahead of itself a tile asks for memory. Tiles of one group go through it from end to end, which the
// processor's own prefetching sees; others have their next place behind the whole tile
// (kernels_benchmark, ternary/*/tokens:*).
template <class V, int kVectors>
int64_t prefetch_distance(int64_t group_bytes) {
  constexpr int64_t kSequentialBytes = 8192;
  return kVectors <= kVectorsPerGroup<V> ? kSequentialBytes : kVectors / kVectorsPerGroup<V> * group_bytes;
}

// Few tokens: no unpacking. The block masked with 3 << 2s is 4^s * code; each s has its own accumulator,
// which is a multiple of 4^s, so the shift at the end is exact. |accumulator| <= 128 * 2 * 64 * cols / 4 <
// 2^31 for cols < 2^18 (kernel_table.h).
template <class V, int kTokens, int kVectors>
void masked_tile(const TernaryMatmulArgs& a, int64_t token, int64_t vector) {
  using Int = typename V::Int;
  const int64_t group_bytes = a.padded_cols * 4, stride = vector_stride<V>(group_bytes);
  const int64_t ahead = prefetch_distance<V, kVectors>(group_bytes);
  const uint8_t* w = vector_at<V>(a, vector);
  const int8_t* q = a.q + token * a.q_stride;
  Int sum[kTokens][kVectors][4];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      BITNET_UNROLL for (int s = 0; s < 4; ++s) sum[t][v][s] = V::zero();
    }
  }
  for (int64_t block = 0; block < a.padded_cols / 16; ++block, w += 64, q += 16) {
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Int codes = V::load(w + v * stride);
      __builtin_prefetch(w + v * stride + ahead);  // a hint: never a fault
      BITNET_UNROLL for (int s = 0; s < 4; ++s) {
        const Int masked = V::mask(codes, s);
        BITNET_UNROLL for (int t = 0; t < kTokens; ++t)
            V::dot(sum[t][v][s], masked, V::broadcast4(q + t * a.q_stride + 4 * s));
      }
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Int low = V::add(sum[t][v][0], V::shift_right(sum[t][v][1], 2));
      const Int high = V::add(V::shift_right(sum[t][v][2], 4), V::shift_right(sum[t][v][3], 6));
      V::store_rows(a, token + t, (vector + v) * V::kRows, V::add(low, high));
    }
  }
}

// More tokens: each block is unpacked to codes 0..2 once and serves kTokens tokens. Where registers are left,
// even and odd s have their own accumulators, so that more products are under way.
// |accumulator| <= 2 * 128 * cols < 2^31 for cols < 2^23.
template <class V, int kTokens, int kVectors>
void unpacked_tile(const TernaryMatmulArgs& a, int64_t token, int64_t vector) {
  using Int = typename V::Int;
  const int64_t group_bytes = a.padded_cols * 4, stride = vector_stride<V>(group_bytes);
  const int64_t ahead = prefetch_distance<V, kVectors>(group_bytes);
  const uint8_t* w = vector_at<V>(a, vector);
  const int8_t* q = a.q + token * a.q_stride;
  constexpr int kSets = 2 * kTokens * kVectors <= V::kAccumulators ? 2 : 1;
  Int sum[kTokens][kVectors][kSets];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      BITNET_UNROLL for (int i = 0; i < kSets; ++i) sum[t][v][i] = V::zero();
    }
  }
  for (int64_t block = 0; block < a.padded_cols / 16; ++block, w += 64, q += 16) {
    Int packed[kVectors];
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      packed[v] = V::load(w + v * stride);
      __builtin_prefetch(w + v * stride + ahead);
    }
    BITNET_UNROLL for (int s = 0; s < 4; ++s) {
      Int codes[kVectors];
      BITNET_UNROLL for (int v = 0; v < kVectors; ++v) codes[v] = V::code(packed[v], s);
      BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
        const Int activations = V::broadcast4(q + t * a.q_stride + 4 * s);
        BITNET_UNROLL for (int v = 0; v < kVectors; ++v) V::dot(sum[t][v][s % kSets], codes[v], activations);
      }
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Int total = kSets == 2 ? V::add(sum[t][v][0], sum[t][v][kSets - 1]) : sum[t][v][0];
      V::store_rows(a, token + t, (vector + v) * V::kRows, total);
    }
  }
}

// Tiles of t2x16 over V: masked ones as long as their accumulators fit. A layout L of tiles provides Vector
// and tile<kTokens, kVectors>.
template <class V>
struct BlockTiles {
  using Vector = V;
  template <int kTokens, int kVectors>
  static void tile(const TernaryMatmulArgs& a, int64_t token, int64_t vector) {
    if constexpr (4 * kTokens * kVectors <= V::kMaskedAccumulators)
      masked_tile<V, kTokens, kVectors>(a, token, vector);
    else
      unpacked_tile<V, kTokens, kVectors>(a, token, vector);
  }
};

// The tiles of one or two vectors by their number of tokens.
template <class L, int kVectors>
struct VnniTiles {
  static constexpr int kMostTokens = L::Vector::kAccumulators / 2;
  using Tile = void (*)(const TernaryMatmulArgs&, int64_t token, int64_t vector);
  Tile of_tokens[kMostTokens + 1] = {};

  constexpr VnniTiles() { fill<kMostTokens>(); }

 private:
  template <int kTokens>
  constexpr void fill() {
    if constexpr (kTokens > 0) {
      of_tokens[kTokens] = L::template tile<kTokens, kVectors>;
      fill<kTokens - 1>();
    }
  }
};

// All vectors of the groups for tokens [token, token + count), in tiles of nearly equal numbers of tokens.
template <class L, int kVectors>
void multiply_tokens(const TernaryMatmulArgs& a, int64_t token, int64_t count) {
  using V = typename L::Vector;
  static constexpr VnniTiles<L, kVectors> kTiles;
  static constexpr VnniTiles<L, 1> kSingles;
  const int64_t tiles = (count + kTiles.kMostTokens - 1) / kTiles.kMostTokens;
  const int64_t last = a.last_group * kVectorsPerGroup<V>;
  for (int64_t vector = a.first_group * kVectorsPerGroup<V>; vector < last; vector += kVectors) {
    const auto* of_tokens = vector + kVectors <= last ? kTiles.of_tokens : kSingles.of_tokens;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t begin = count * i / tiles, end = count * (i + 1) / tiles;
      of_tokens[end - begin](a, token + begin, vector);
    }
  }
}

// Any number of tokens, kVectors vectors at a time. Activations are read once per tile of rows: a batch of
// tokens is what an L2 cache holds easily (kernels_benchmark, ternary/*/tokens:512: no difference between 1/4
// and 1 MiB).
template <class L, int kVectors>
void multiply_batches(const TernaryMatmulArgs& a) {
  constexpr int64_t kActivationBytes = 1 << 18, kMost = VnniTiles<L, kVectors>::kMostTokens;
  int64_t step = kActivationBytes / a.padded_cols / kMost * kMost;
  if (step < kMost) step = kMost;
  for (int64_t token = 0; token < a.tokens; token += step)
    multiply_tokens<L, kVectors>(a, token, a.tokens - token < step ? a.tokens - token : step);
}

}  // namespace bitnet::kernels
