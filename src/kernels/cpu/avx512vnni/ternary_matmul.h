#pragma once

// Ternary matrix times int8 activations with vpdpbusd (u8 codes x s8 activations, four products added into
// int32 without saturation). Codes are trit + 1, so sum_k q[k] is subtracted at the end.

#include "kernels/cpu/float_kernels.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx512vnni {
namespace {

constexpr int64_t kGroupRows = 16, kBlockCols = 16, kBlockBytes = 64;

// Four activations as every dword, folded by the compiler into vpdpbusd's embedded broadcast.
inline __m512i broadcast4(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof four);
  return _mm512_set1_epi32(four);
}

inline __m512i load_block(const uint8_t* p) {
  return _mm512_loadu_si512(p);
}

// The empty asm keeps GCC from moving the products of a tile apart, which spills accumulators
// (kernels_benchmark, ternary/6912x2560/tokens:64/avx512vnni).
inline void accumulate(__m512i& sum, __m512i codes, __m512i activation) {
  sum = _mm512_dpbusd_epi32(sum, codes, activation);
  __asm__("" : "+v"(sum));
}

// y of 16 rows of one token from their code sums.
inline void store_rows(const TernaryMatmulArgs& a, int64_t token, int64_t group, __m512i code_sum) {
  const int64_t row = group * kGroupRows;
  const int64_t rows = a.rows - row;
  const auto mask = static_cast<__mmask16>(rows >= kGroupRows ? 0xffffu : (1u << rows) - 1u);
  const __m512i dot = _mm512_sub_epi32(code_sum, _mm512_set1_epi32(a.sum[token]));
  const __m512 row_scale = _mm512_maskz_loadu_ps(mask, a.row_scale + row);
  const __m512 scale = _mm512_div_ps(row_scale, _mm512_set1_ps(a.scale[token]));
  _mm512_mask_storeu_ps(a.y + token * a.y_stride + row, mask, _mm512_mul_ps(_mm512_cvtepi32_ps(dot), scale));
}

// Few tokens: no unpacking. The block masked with 3 << 2s is 4^s * code; each s has its own accumulator,
// which is a multiple of 4^s, so the shift at the end is exact. |accumulator| <= 128 * 2 * 64 * cols / 4 <
// 2^31 for cols < 2^18 (kernel_table.h).
template <int kTokens, int kGroups>
void masked_tile(const TernaryMatmulArgs& a, int64_t token, int64_t group) {
  const int64_t group_bytes = a.padded_cols / kBlockCols * kBlockBytes;
  const uint8_t* w = a.weights + group * group_bytes;
  const int8_t* q = a.q + token * a.q_stride;
  __m512i sum[kTokens][kGroups][4];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int g = 0; g < kGroups; ++g) {
      BITNET_UNROLL for (int s = 0; s < 4; ++s) sum[t][g][s] = _mm512_setzero_si512();
    }
  }
  for (int64_t block = 0; block < a.padded_cols / kBlockCols; ++block, w += kBlockBytes, q += kBlockCols) {
    BITNET_UNROLL for (int g = 0; g < kGroups; ++g) {
      const __m512i codes = load_block(w + g * group_bytes);
      // The same place of the next tile (kernels_benchmark, ternary/*/tokens:1/avx512vnni). A hint: never a
      // fault.
      if constexpr (kTokens == 1) __builtin_prefetch(w + (kGroups + g) * group_bytes);
      BITNET_UNROLL for (int s = 0; s < 4; ++s) {
        const __m512i masked = _mm512_and_si512(codes, _mm512_set1_epi8(static_cast<char>(3 << (2 * s))));
        BITNET_UNROLL for (int t = 0; t < kTokens; ++t)
            accumulate(sum[t][g][s], masked, broadcast4(q + t * a.q_stride + 4 * s));
      }
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int g = 0; g < kGroups; ++g) {
      const __m512i low = _mm512_add_epi32(sum[t][g][0], _mm512_srai_epi32(sum[t][g][1], 2));
      const __m512i high =
          _mm512_add_epi32(_mm512_srai_epi32(sum[t][g][2], 4), _mm512_srai_epi32(sum[t][g][3], 6));
      store_rows(a, token + t, group + g, _mm512_add_epi32(low, high));
    }
  }
}

// Many tokens: each block is unpacked to codes 0..2 once and serves kTokens tokens, one accumulator each:
// |accumulator| <= 2 * 128 * cols < 2^31 for cols < 2^23.
template <int kTokens, int kGroups>
void unpacked_tile(const TernaryMatmulArgs& a, int64_t token, int64_t group) {
  const int64_t group_bytes = a.padded_cols / kBlockCols * kBlockBytes;
  const uint8_t* w = a.weights + group * group_bytes;
  const int8_t* q = a.q + token * a.q_stride;
  const __m512i three = _mm512_set1_epi8(3);
  __m512i sum[kTokens][kGroups];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int g = 0; g < kGroups; ++g) sum[t][g] = _mm512_setzero_si512();
  }
  for (int64_t block = 0; block < a.padded_cols / kBlockCols; ++block, w += kBlockBytes, q += kBlockCols) {
    __m512i packed[kGroups];
    BITNET_UNROLL for (int g = 0; g < kGroups; ++g) packed[g] = load_block(w + g * group_bytes);
    BITNET_UNROLL for (int s = 0; s < 4; ++s) {
      __m512i codes[kGroups];
      BITNET_UNROLL for (int g = 0; g < kGroups; ++g) codes[g] =
          _mm512_and_si512(_mm512_srli_epi16(packed[g], 2 * s), three);
      BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
        const __m512i activation = broadcast4(q + t * a.q_stride + 4 * s);
        BITNET_UNROLL for (int g = 0; g < kGroups; ++g) accumulate(sum[t][g], codes[g], activation);
      }
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int g = 0; g < kGroups; ++g) store_rows(a, token + t, group + g, sum[t][g]);
  }
}

using Tile = void (*)(const TernaryMatmulArgs&, int64_t token, int64_t group);

constexpr int kMaxTileTokens = 12;

template <int kGroups>
constexpr Tile kTiles[kMaxTileTokens] = {
    masked_tile<1, kGroups>,    masked_tile<2, kGroups>,    masked_tile<3, kGroups>,
    unpacked_tile<4, kGroups>,  unpacked_tile<5, kGroups>,  unpacked_tile<6, kGroups>,
    unpacked_tile<7, kGroups>,  unpacked_tile<8, kGroups>,  unpacked_tile<9, kGroups>,
    unpacked_tile<10, kGroups>, unpacked_tile<11, kGroups>, unpacked_tile<12, kGroups>};

// Tokens [token, token + count) of all groups, in tiles of nearly equal size, two groups at a time.
void multiply_tokens(const TernaryMatmulArgs& a, int64_t token, int64_t count) {
  const int64_t tiles = (count + kMaxTileTokens - 1) / kMaxTileTokens;
  for (int64_t group = a.first_group; group < a.last_group; group += 2) {
    const Tile* tile = group + 1 < a.last_group ? kTiles<2> : kTiles<1>;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t begin = count * i / tiles, end = count * (i + 1) / tiles;
      tile[end - begin - 1](a, token + begin, group);
    }
  }
}

void ternary_matmul(const TernaryMatmulArgs& a) {
  // Activations are read once per pair of groups: take as many tokens at a time as an L2 cache holds easily
  // (kernels_benchmark, ternary/*/tokens:512: no difference between 1/4 and 1 MiB).
  constexpr int64_t kActivationBytes = 1 << 18;
  int64_t step = kActivationBytes / a.padded_cols / kMaxTileTokens * kMaxTileTokens;
  if (step < kMaxTileTokens) step = kMaxTileTokens;
  for (int64_t token = 0; token < a.tokens; token += step)
    multiply_tokens(a, token, a.tokens - token < step ? a.tokens - token : step);
}

}  // namespace
}  // namespace bitnet::kernels::avx512vnni
