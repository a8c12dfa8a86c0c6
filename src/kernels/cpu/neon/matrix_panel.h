#pragma once

// Panels (cpu/panel_matmul.h) with smmla, which multiplies 2 tokens x 8 columns with 8 columns x 2 rows.
// Codes are [column / 8][8 pairs of rows][2 rows x 8 columns]: two quarters of a block, zipped.

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/neon/dot_product.h"
#include "kernels/cpu/panel_matmul.h"

#include <cstdint>

#include <arm_neon.h>

namespace bitnet::kernels::neon {
namespace {

struct MatrixPanel {
  // 16 KiB of codes: half of a small L1 cache. A batch fits a small L2 cache.
  static constexpr int64_t kPanelGroups = 2, kSliceCols = 512, kUnitCols = 16;
  static constexpr int64_t kBatchTokens = 512, kBatchBytes = 1 << 18;
  static constexpr int kPairs = 8;  // of rows in a group

  static int64_t slice_cols(int64_t) { return kSliceCols; }

  static void unpack(const uint8_t* block, uint8_t* codes) {
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      const uint8x16_t packed = vld1q_u8(block + i * kQuarterBytes);
      zip(code<0>(packed), code<1>(packed), codes + 32 * i);
      zip(code<2>(packed), code<3>(packed), codes + 128 + 32 * i);
    }
  }

  // 4 tokens at a time: 16 accumulators of 32 registers.
  static void multiply(const PanelProduct& p) {
    for (int64_t token = 0; token < p.tokens; token += 4) {
      for (int64_t group = 0; group < p.groups; ++group) {
        if (p.tokens - token > 2)
          tile<2>(p, token, group);
        else
          tile<1>(p, token, group);
      }
    }
  }

  static void store_rows(const TernaryMatmulArgs& a, int64_t token, int64_t group, const int32_t* sums) {
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t row = group * kGroupRows + i * kQuarterRows;
      if (row < a.rows) neon::store_rows(a, token, row, vld1q_s32(sums + i * kQuarterRows));
    }
  }
  static void release() {}

 private:
  // Four columns and the next four of four rows: eight of each.
  static void zip(int8x16_t first, int8x16_t next, uint8_t* codes) {
    const int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(next);
    vst1q_u8(codes, vreinterpretq_u8_s32(vzip1q_s32(a, b)));
    vst1q_u8(codes + 16, vreinterpretq_u8_s32(vzip2q_s32(a, b)));
  }

  // 2 kTokenPairs tokens, of which the last may be missing, and one group.
  template <int kTokenPairs>
  static void tile(const PanelProduct& p, int64_t token, int64_t group) {
    const uint8_t* codes = p.codes + group * p.group_bytes;
    const int8_t* q[2 * kTokenPairs];
    // A missing token is the one before it, computed twice and not stored.
    BITNET_UNROLL for (int t = 0; t < 2 * kTokenPairs; ++t) {
      const int64_t row = token + t < p.tokens ? token + t : p.tokens - 1;
      q[t] = p.q + row * p.q_stride;
    }
    int32x4_t sum[kTokenPairs][kPairs];
    BITNET_UNROLL for (int t = 0; t < kTokenPairs; ++t) {
      BITNET_UNROLL for (int r = 0; r < kPairs; ++r) sum[t][r] = vdupq_n_s32(0);
    }
    for (int64_t col = 0; col < p.cols; col += 8, codes += 128) {
      int8x16_t activations[kTokenPairs];
      BITNET_UNROLL for (int t = 0; t < kTokenPairs; ++t) activations[t] =
          vcombine_s8(vld1_s8(q[2 * t] + col), vld1_s8(q[2 * t + 1] + col));
      BITNET_UNROLL for (int r = 0; r < kPairs; ++r) {
        const int8x16_t code = vreinterpretq_s8_u8(vld1q_u8(codes + 16 * r));
        BITNET_UNROLL for (int t = 0; t < kTokenPairs; ++t) sum[t][r] =
            vmmlaq_s32(sum[t][r], activations[t], code);
      }
    }
    BITNET_UNROLL for (int t = 0; t < kTokenPairs; ++t) {
      BITNET_UNROLL for (int r = 0; r < kPairs; ++r) {
        store_pair(p, token + 2 * t, group, r, vget_low_s32(sum[t][r]));
        store_pair(p, token + 2 * t + 1, group, r, vget_high_s32(sum[t][r]));
      }
    }
  }

  static void store_pair(const PanelProduct& p, int64_t token, int64_t group, int pair, int32x2_t sum) {
    if (token >= p.tokens) return;
    int32_t* to = p.sums + token * p.sums_stride + group * kGroupRows + 2 * pair;
    vst1_s32(to, p.first ? sum : vadd_s32(sum, vld1_s32(to)));
  }
};

}  // namespace
}  // namespace bitnet::kernels::neon
