#pragma once

// Ternary matrix times int8 activations with vpmaddubsw (u8 codes x s8 activations, two products added into
// int16 with saturation). int16 sums are widened to int32 before they can reach the saturation bound. Codes
// are trit + 1, so sum_k q[k] is subtracted at the end.

#include "kernels/cpu/avx2/rows8.h"
#include "kernels/cpu/float_kernels.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx2 {
namespace {

// Keeps GCC from computing all products of a tile before it adds the first, which spills them (and costs a
// third of the speed: kernels_benchmark, ternary/6912x2560/tokens:64/avx2).
inline void pin(__m256i& sum) {
  __asm__("" : "+x"(sum));
}

// One token. The codes of s = 1 and s = 3 stay where they are in their nibble (times 4), which saves their
// shift. The int16 sums `unit` and `times4` take two vpmaddubsw a block each (kBlocksPerWidening).
// The half at w: 8 rows. Returns the code sums.
template <int kHalves>
void one_token(const TernaryMatmulArgs& a, const uint8_t* w, __m256i (&total)[kHalves]) {
  const __m256i low = _mm256_set1_epi8(0x03), high = _mm256_set1_epi8(0x0c);
  const int64_t blocks = a.padded_cols / kBlockCols;
  const int8_t* q = a.q;
  __m256i unit[kHalves], times4[kHalves];
  BITNET_UNROLL for (int h = 0; h < kHalves; ++h) unit[h] = times4[h] = _mm256_setzero_si256();
  for (int64_t block = 0; block < blocks;) {
    const int64_t stop = blocks - block < kBlocksPerWidening ? blocks : block + kBlocksPerWidening;
    __m256i unit16[kHalves], times4_16[kHalves];
    BITNET_UNROLL for (int h = 0; h < kHalves; ++h) unit16[h] = times4_16[h] = _mm256_setzero_si256();
    for (; block < stop; ++block, w += kBlockBytes, q += kBlockCols) {
      // The same place of the next group (kernels_benchmark, ternary/*/tokens:1/avx2). A hint: never a fault.
      __builtin_prefetch(w + blocks * kBlockBytes);
      const __m256i q0 = broadcast4(q), q1 = broadcast4(q + 4), q2 = broadcast4(q + 8),
                    q3 = broadcast4(q + 12);
      BITNET_UNROLL for (int h = 0; h < kHalves; ++h) {
        const __m256i packed = load_half(w + h * kHalfBytes), upper = _mm256_srli_epi16(packed, 4);
        const __m256i p0 = _mm256_maddubs_epi16(_mm256_and_si256(packed, low), q0);
        const __m256i p1 = _mm256_maddubs_epi16(_mm256_and_si256(packed, high), q1);
        const __m256i p2 = _mm256_maddubs_epi16(_mm256_and_si256(upper, low), q2);
        const __m256i p3 = _mm256_maddubs_epi16(_mm256_and_si256(upper, high), q3);
        unit16[h] = _mm256_add_epi16(unit16[h], _mm256_add_epi16(p0, p2));
        times4_16[h] = _mm256_add_epi16(times4_16[h], _mm256_add_epi16(p1, p3));
      }
    }
    BITNET_UNROLL for (int h = 0; h < kHalves; ++h) {
      unit[h] = _mm256_add_epi32(unit[h], widen(unit16[h]));
      times4[h] = _mm256_add_epi32(times4[h], widen(times4_16[h]));
    }
  }
  BITNET_UNROLL for (int h = 0; h < kHalves; ++h) total[h] =
      _mm256_add_epi32(unit[h], _mm256_srai_epi32(times4[h], 2));
}

void multiply_one_token(const TernaryMatmulArgs& a, int64_t group) {
  __m256i total[2];
  one_token(a, a.weights + group * (a.padded_cols / kBlockCols * kBlockBytes), total);
  store_rows(a, 0, group * kGroupRows, total[0]);
  store_rows(a, 0, group * kGroupRows + 8, total[1]);
}

// Several tokens: a half block is unpacked to codes 0..2 once; each token adds four vpmaddubsw a block.
constexpr int kBlocksPerTile = 16;
static_assert(kBlocksPerTile * 4 * (2 * 2 * 128) <= 32768, "int16: -2^15 is the least value, not less");

template <int kTokens>
void tile(const TernaryMatmulArgs& a, int64_t token, int64_t group, int64_t half) {
  const int64_t blocks = a.padded_cols / kBlockCols;
  const uint8_t* w = a.weights + group * blocks * kBlockBytes + half * kHalfBytes;
  const int8_t* q = a.q + token * a.q_stride;
  __m256i total[kTokens];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) total[t] = _mm256_setzero_si256();
  for (int64_t block = 0; block < blocks;) {
    const int64_t stop = blocks - block < kBlocksPerTile ? blocks : block + kBlocksPerTile;
    __m256i sum16[kTokens];
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) sum16[t] = _mm256_setzero_si256();
    for (; block < stop; ++block, w += kBlockBytes, q += kBlockCols) {
      const __m256i packed = load_half(w);
      __builtin_prefetch(w + blocks * kBlockBytes);
      BITNET_UNROLL for (int s = 0; s < 4; ++s) {
        const __m256i codes = code(packed, s);
        BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
          const __m256i products = _mm256_maddubs_epi16(codes, broadcast4(q + t * a.q_stride + 4 * s));
          sum16[t] = _mm256_add_epi16(sum16[t], products);
          pin(sum16[t]);
        }
      }
    }
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) total[t] = _mm256_add_epi32(total[t], widen(sum16[t]));
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t)
      store_rows(a, token + t, group * kGroupRows + half * kHalfRows, total[t]);
}

using Tile = void (*)(const TernaryMatmulArgs&, int64_t token, int64_t group, int64_t half);

constexpr int kMaxTileTokens = 8;
constexpr Tile kTiles[kMaxTileTokens] = {tile<1>, tile<2>, tile<3>, tile<4>,
                                         tile<5>, tile<6>, tile<7>, tile<8>};

// Tokens [token, token + count) of all groups, in tiles of nearly equal size.
void multiply_tokens(const TernaryMatmulArgs& a, int64_t token, int64_t count) {
  const int64_t tiles = (count + kMaxTileTokens - 1) / kMaxTileTokens;
  for (int64_t group = a.first_group; group < a.last_group; ++group) {
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t begin = count * i / tiles, end = count * (i + 1) / tiles;
      for (int64_t half = 0; half < 2; ++half) kTiles[end - begin - 1](a, token + begin, group, half);
    }
  }
}

void ternary_matmul(const TernaryMatmulArgs& a) {
  if (a.tokens == 1) {
    for (int64_t group = a.first_group; group < a.last_group; ++group) multiply_one_token(a, group);
    return;
  }
  // Activations are read once per group: take as many tokens at a time as a small L2 cache holds
  // (kernels_benchmark, ternary/*/tokens:512).
  constexpr int64_t kActivationBytes = 1 << 18;
  int64_t step = kActivationBytes / a.padded_cols / kMaxTileTokens * kMaxTileTokens;
  if (step < kMaxTileTokens) step = kMaxTileTokens;
  for (int64_t token = 0; token < a.tokens; token += step)
    multiply_tokens(a, token, a.tokens - token < step ? a.tokens - token : step);
}

}  // namespace
}  // namespace bitnet::kernels::avx2
