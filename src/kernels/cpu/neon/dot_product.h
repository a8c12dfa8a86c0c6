#pragma once

// Products with the dot product instructions of ARMv8.2: four products a lane straight into int32, one lane a
// row. The tiles take four activations as a lane of the instruction, which needs no broadcast.

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/neon/ternary_matmul.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <arm_neon.h>

namespace bitnet::kernels::neon {
namespace {

// A policy of ternary_matmul.h. |sum| <= 2 * 128 * cols < 2^31.
struct DotProduct {
  static constexpr int64_t kBlocksPerWidening = int64_t{1} << 62;  // int32 never needs widening

  int32x4_t total = vdupq_n_s32(0);

  void add(int8x16_t codes, int8x16_t activations) { total = vdotq_s32(total, codes, activations); }
  void widen() {}
  [[nodiscard]] int32x4_t rows() const { return total; }
};

// Products of scan.h.
struct DotProducts {
  static int32x4_t add(int32x4_t sum, int8x16_t a, int8x16_t b) { return vdotq_s32(sum, a, b); }
};

// Codes of columns 4s .. 4s + 3.
template <int s>
inline int8x16_t code(uint8x16_t packed) {
  if constexpr (s == 0)
    return vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(3)));
  else if constexpr (s == 3)
    return vreinterpretq_s8_u8(vshrq_n_u8(packed, 6));
  else
    return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(packed, 2 * s), vdupq_n_u8(3)));
}

template <int s>
inline int8x16_t masked(uint8x16_t packed) {
  return vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(3 << (2 * s))));
}

// kTokens tokens and whole groups. Codes of s = 1 and 2 stay where they are, times 4 and 16, in accumulators
// of their own: |sum| <= 2 * 16 * 128 * cols / 4 < 2^31 for cols < 2^18; their shifts at the end are exact.
// (Times 64 a code would not fit int8.)
template <int kTokens>
void masked_tile(const TernaryMatmulArgs& a, int64_t token, int64_t group) {
  const int64_t group_bytes = a.padded_cols * 4;
  const uint8_t* w = a.weights + group * group_bytes;
  const int8_t* q = a.q + token * a.q_stride;
  int32x4_t sum[kTokens][4][3];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int i = 0; i < 4; ++i) sum[t][i][0] = sum[t][i][1] = sum[t][i][2] = vdupq_n_s32(0);
  }
  for (int64_t col = 0; col < a.padded_cols; col += kBlockCols, w += kBlockBytes) {
    __builtin_prefetch(w + group_bytes);
    int8x16_t activations[kTokens];
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) activations[t] = vld1q_s8(q + t * a.q_stride + col);
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      const uint8x16_t packed = vld1q_u8(w + i * kQuarterBytes);
      BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
        int32x4_t(&to)[3] = sum[t][i];
        to[0] = vdotq_laneq_s32(to[0], masked<0>(packed), activations[t], 0);
        to[1] = vdotq_laneq_s32(to[1], masked<1>(packed), activations[t], 1);
        to[2] = vdotq_laneq_s32(to[2], masked<2>(packed), activations[t], 2);
        to[0] = vdotq_laneq_s32(to[0], code<3>(packed), activations[t], 3);
      }
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      const int32x4_t scaled = vaddq_s32(vshrq_n_s32(sum[t][i][1], 2), vshrq_n_s32(sum[t][i][2], 4));
      const int64_t row = group * kGroupRows + i * kQuarterRows;
      if (row < a.rows) store_rows(a, token + t, row, vaddq_s32(sum[t][i][0], scaled));
    }
  }
}

template <int s, int kTokens, int kQuarters>
inline void add_products(const uint8x16_t (&packed)[kQuarters], const int8x16_t (&activations)[kTokens],
                         int32x4_t (&sum)[kTokens][kQuarters]) {
  BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) {
    const int8x16_t codes = code<s>(packed[i]);
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) sum[t][i] =
        vdotq_laneq_s32(sum[t][i], codes, activations[t], s);
  }
}

// kTokens tokens and kQuarters * 4 rows from quarter `quarter` of a group: one unpacking serves all tokens.
template <int kTokens, int kQuarters>
void unpacked_tile(const TernaryMatmulArgs& a, int64_t token, int64_t group, int64_t quarter) {
  const int64_t group_bytes = a.padded_cols * 4;
  const uint8_t* w = a.weights + group * group_bytes + quarter * kQuarterBytes;
  const int8_t* q = a.q + token * a.q_stride;
  int32x4_t sum[kTokens][kQuarters];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) sum[t][i] = vdupq_n_s32(0);
  }
  for (int64_t col = 0; col < a.padded_cols; col += kBlockCols, w += kBlockBytes) {
    __builtin_prefetch(w + group_bytes);
    uint8x16_t packed[kQuarters];
    int8x16_t activations[kTokens];
    BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) packed[i] = vld1q_u8(w + i * kQuarterBytes);
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) activations[t] = vld1q_s8(q + t * a.q_stride + col);
    add_products<0>(packed, activations, sum);
    add_products<1>(packed, activations, sum);
    add_products<2>(packed, activations, sum);
    add_products<3>(packed, activations, sum);
  }
  const int64_t row = group * kGroupRows + quarter * kQuarterRows;
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) {
      if (row + i * kQuarterRows < a.rows) store_rows(a, token + t, row + i * kQuarterRows, sum[t][i]);
    }
  }
}

// One group and `count` tokens, count <= kMost <= 8, with at most 16 accumulators (24 where masked) of 32
// registers.
template <int kMost>
void tile_of(const TernaryMatmulArgs& a, int64_t token, int64_t count, int64_t group) {
  if constexpr (kMost > 1) {
    if (count < kMost) return tile_of<kMost - 1>(a, token, count, group);
  }
  if constexpr (kMost <= 2) {
    masked_tile<kMost>(a, token, group);
  } else {
    constexpr int kQuarters = kMost <= 4 ? 4 : 2;
    for (int64_t quarter = 0; quarter < 4; quarter += kQuarters)
      unpacked_tile<kMost, kQuarters>(a, token, group, quarter);
  }
}

// Not tuned: tested under an emulator only.
inline void dot_matmul(const TernaryMatmulArgs& a) {
  constexpr int kTileTokens = 8;
  const int64_t tiles = (a.tokens + kTileTokens - 1) / kTileTokens;
  for (int64_t group = a.first_group; group < a.last_group; ++group) {
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t begin = a.tokens * i / tiles, end = a.tokens * (i + 1) / tiles;
      tile_of<kTileTokens>(a, begin, end - begin, group);
    }
  }
}

}  // namespace
}  // namespace bitnet::kernels::neon
