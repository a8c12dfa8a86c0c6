#pragma once

// Ternary matrix times int8 activations on NEON. A block is four q registers (quarters) of 4 rows x 16
// columns; after unpacking to codes 0..2 (trit + 1) a policy multiplies 4 rows x 4 columns with 4 broadcast
// activations: Widening (baseline) or DotProduct (neon_dotprod_table.cpp). sum_k q[k] is subtracted at the
// end.

#include "kernels/cpu/float_kernels.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <arm_neon.h>

namespace bitnet::kernels::neon {
namespace {

constexpr int64_t kGroupRows = 16, kBlockCols = 16, kBlockBytes = 64, kQuarterBytes = 16;
constexpr int kQuarterRows = 4;

inline int8x16_t broadcast4(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof four);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

// vmlal_s8 into int16, two lanes a row, widened to int32 after kBlocksPerWidening blocks.
struct Widening {
  static constexpr int kBlocksPerWidening = 32;
  static_assert(kBlocksPerWidening * 4 * 2 * 128 <= 32768, "int16: -2^15 is the least value, not less");

  int32x4_t total[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
  int16x8_t sum[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};

  void add(int8x16_t codes, int8x16_t activations) {
    sum[0] = vmlal_s8(sum[0], vget_low_s8(codes), vget_low_s8(activations));
    sum[1] = vmlal_high_s8(sum[1], codes, activations);
  }
  void widen() {
    for (int i = 0; i < 2; ++i) {
      total[i] = vpadalq_s16(total[i], sum[i]);
      sum[i] = vdupq_n_s16(0);
    }
  }
  [[nodiscard]] int32x4_t rows() const { return vpaddq_s32(total[0], total[1]); }
};

// y of 4 rows of one token from their code sums.
inline void store_rows(const TernaryMatmulArgs& a, int64_t token, int64_t row, int32x4_t code_sum) {
  const float32x4_t dot = vcvtq_f32_s32(vsubq_s32(code_sum, vdupq_n_s32(a.sum[token])));
  float* y = a.y + token * a.y_stride + row;
  if (row + kQuarterRows <= a.rows) {
    const float32x4_t scale = vdivq_f32(vld1q_f32(a.row_scale + row), vdupq_n_f32(a.scale[token]));
    vst1q_f32(y, vmulq_f32(dot, scale));
    return;
  }
  float values[kQuarterRows];
  vst1q_f32(values, dot);
  for (int64_t r = 0; row + r < a.rows; ++r) y[r] = values[r] * (a.row_scale[row + r] / a.scale[token]);
}

// kQuarters * 4 rows from quarter `quarter` of a group, for kTokens tokens.
template <class Policy, int kTokens, int kQuarters>
void tile(const TernaryMatmulArgs& a, int64_t token, int64_t group, int64_t quarter) {
  const int64_t blocks = a.padded_cols / kBlockCols;
  const uint8_t* w = a.weights + group * blocks * kBlockBytes + quarter * kQuarterBytes;
  const int8_t* q = a.q + token * a.q_stride;
  const uint8x16_t three = vdupq_n_u8(3);
  Policy sums[kTokens][kQuarters];
  for (int64_t block = 0; block < blocks;) {
    const int64_t stop =
        blocks - block < Policy::kBlocksPerWidening ? blocks : block + Policy::kBlocksPerWidening;
    for (; block < stop; ++block, w += kBlockBytes, q += kBlockCols) {
      uint8x16_t packed[kQuarters];
      BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) packed[i] = vld1q_u8(w + i * kQuarterBytes);
      BITNET_UNROLL for (int s = 0; s < 4; ++s) {
        BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
          const int8x16_t activations = broadcast4(q + t * a.q_stride + 4 * s);
          BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) sums[t][i].add(
              vreinterpretq_s8_u8(vandq_u8(packed[i], three)), activations);
        }
        BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) packed[i] = vshrq_n_u8(packed[i], 2);
      }
    }
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
      BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) sums[t][i].widen();
    }
  }
  const int64_t row = group * kGroupRows + quarter * kQuarterRows;
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int i = 0; i < kQuarters; ++i) {
      if (row + i * kQuarterRows < a.rows)
        store_rows(a, token + t, row + i * kQuarterRows, sums[t][i].rows());
    }
  }
}

// Tiles of 4 tokens x 2 quarters (16 or 8 int accumulators of 32 registers), then the tokens left, whole
// groups at a time. Not tuned: tested under an emulator only.
template <class Policy>
void ternary_matmul(const TernaryMatmulArgs& a) {
  constexpr int kTileTokens = 4;
  for (int64_t group = a.first_group; group < a.last_group; ++group) {
    int64_t token = 0;
    for (; token + kTileTokens <= a.tokens; token += kTileTokens) {
      for (int64_t quarter = 0; quarter < 4; quarter += 2)
        tile<Policy, kTileTokens, 2>(a, token, group, quarter);
    }
    for (; token < a.tokens; ++token) tile<Policy, 1, 4>(a, token, group, 0);
  }
}

}  // namespace
}  // namespace bitnet::kernels::neon
