#pragma once

// Products with chosen rows or columns of a ternary matrix on NEON, and their layouts as t2x16 blocks.

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/neon/ternary_matmul.h"
#include "kernels/cpu/sparse_kernels.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <arm_neon.h>

namespace bitnet::kernels::neon {
namespace {

// Sixteen bytes of a row with their 64 activations, by a policy of ternary_matmul.h.
template <class Policy>
inline void add_row_bytes(const TernaryRowsArgs& a, uint8x16_t packed, int64_t offset, Policy& sum) {
  const uint8x16_t three = vdupq_n_u8(3);
  BITNET_UNROLL for (int s = 0; s < 4; ++s) {
    sum.add(vreinterpretq_s8_u8(vandq_u8(packed, three)), vld1q_s8(a.planes + s * a.plane_stride + offset));
    packed = vshrq_n_u8(packed, 2);
  }
}

// The code sum of one row. An addition to int16 is one of ternary_matmul.h's: the same bound.
template <class Policy>
int32_t row_sum(const TernaryRowsArgs& a, const uint8_t* row) {
  const int64_t row_bytes = a.padded_cols / 4;
  Policy sum;
  int64_t offset = 0;
  while (offset + 16 <= row_bytes) {
    for (int64_t i = 0; i < Policy::kBlocksPerWidening && offset + 16 <= row_bytes; ++i, offset += 16)
      add_row_bytes(a, vld1q_u8(row + offset), offset, sum);
    sum.widen();
  }
  if (offset < row_bytes) {
    uint8_t tail[16] = {};
    for (int64_t i = offset; i < row_bytes; ++i) tail[i - offset] = row[i];
    add_row_bytes(a, vld1q_u8(tail), offset, sum);
    sum.widen();
  }
  return vaddvq_s32(sum.rows());
}

template <class Policy>
void ternary_rows(const TernaryRowsArgs& a) {
  for (int64_t i = 0; i < a.count; ++i) {
    const int32_t dot = row_sum<Policy>(a, a.weights + a.rows[i] * (a.padded_cols / 4)) - a.sum;
    a.y[i] = static_cast<float>(dot) * (a.row_scale[a.rows[i]] / a.scale);
  }
}

// Columns whose products an int16 holds: |code * q| <= 2 * 128.
constexpr int64_t kBlockColumns = 128;
static_assert(kBlockColumns * 2 * 128 <= 32768, "int16: -2^15 is the least value, not less");

// Adds columns [begin, end) of the lists to the 64 sums of a lane of 16 bytes of a line, or starts them.
// sums: of the line, from the lane's first row.
inline void add_columns(const TernaryColumnsArgs& a, const uint8_t* lane, int64_t begin, int64_t end,
                        int32_t* sums) {
  const uint8x16_t three = vdupq_n_u8(3);
  int16x8_t sum[4][2];
  BITNET_UNROLL for (int s = 0; s < 4; ++s) sum[s][0] = sum[s][1] = vdupq_n_s16(0);
  for (int64_t i = begin; i < end; ++i) {
    uint8x16_t packed = vld1q_u8(lane + a.columns[i] * a.stride);
    const int8x16_t activation = vdupq_n_s8(a.q[i]);
    BITNET_UNROLL for (int s = 0; s < 4; ++s) {
      const int8x16_t codes = vreinterpretq_s8_u8(vandq_u8(packed, three));
      sum[s][0] = vmlal_s8(sum[s][0], vget_low_s8(codes), vget_low_s8(activation));
      sum[s][1] = vmlal_high_s8(sum[s][1], codes, activation);
      packed = vshrq_n_u8(packed, 2);
    }
  }
  // Bytes 4u..4u+3 are four consecutive rows.
  BITNET_UNROLL for (int s = 0; s < 4; ++s) {
    BITNET_UNROLL for (int u = 0; u < 4; ++u) {
      int32_t* out = sums + 64 * u + 16 * s;
      const int16x8_t eight = sum[s][u / 2];
      const int32x4_t four = vmovl_s16(u % 2 == 0 ? vget_low_s16(eight) : vget_high_s16(eight));
      vst1q_s32(out, begin == 0 ? four : vaddq_s32(four, vld1q_s32(out)));
    }
  }
}

void ternary_columns(const TernaryColumnsArgs& a) {
  int64_t begin = 0;
  do {
    const int64_t end = a.count - begin < kBlockColumns ? a.count : begin + kBlockColumns;
    for (int64_t line = a.first_line; line < a.last_line; ++line) {
      for (int64_t l = 0; l < 4; ++l)
        add_columns(a, a.weights + 64 * line + 16 * l, begin, end,
                    a.sums + 256 * (line - a.first_line) + 4 * l);
    }
    begin = end;
  } while (begin < a.count);
}

template <class V>
void rows_to_blocks(const TranscodeArgs& a) {
  const int64_t blocks = a.padded_cols / 16;
  for (int64_t group = a.first; group < a.last; ++group) {
    copy_words<V>(a.weights + 16 * group * a.stride, a.stride, 0, blocks,
                  a.blocks + group * blocks * kBlockBytes);
  }
}

// Swaps fields: those of x above `width` bits with those of y below, where the mask has them.
template <int kWidth>
inline void exchange(uint8x16_t& x, uint8x16_t& y, uint8_t mask) {
  const uint8x16_t differences = vandq_u8(veorq_u8(vshrq_n_u8(x, kWidth), y), vdupq_n_u8(mask));
  y = veorq_u8(y, differences);
  x = veorq_u8(x, vshlq_n_u8(differences, kWidth));
}

// A lane of 16 columns of a line: field s of the codes of columns 4t..4t+3 becomes field t of group 4u + s.
inline void lane_block(const uint8_t* columns, int64_t stride, uint8_t* out, int64_t group_bytes) {
  uint8x16_t codes[4][4];
  BITNET_UNROLL for (int t = 0; t < 4; ++t) {
    const uint8_t* four = columns + 4 * t * stride;
    const uint8x16x2_t even = vzipq_u8(vld1q_u8(four), vld1q_u8(four + 2 * stride));
    const uint8x16x2_t odd = vzipq_u8(vld1q_u8(four + stride), vld1q_u8(four + 3 * stride));
    BITNET_UNROLL for (int v = 0; v < 2; ++v) {
      const uint8x16x2_t both = vzipq_u8(even.val[v], odd.val[v]);
      codes[t][2 * v] = both.val[0];
      codes[t][2 * v + 1] = both.val[1];
    }
  }
  BITNET_UNROLL for (int u = 0; u < 4; ++u) {
    exchange<2>(codes[0][u], codes[1][u], 0x33);
    exchange<2>(codes[2][u], codes[3][u], 0x33);
    exchange<4>(codes[0][u], codes[2][u], 0x0f);
    exchange<4>(codes[1][u], codes[3][u], 0x0f);
    BITNET_UNROLL for (int s = 0; s < 4; ++s) vst1q_u8(out + (4 * u + s) * group_bytes, codes[s][u]);
  }
}

void columns_to_blocks(const TranscodeArgs& a) {
  const int64_t blocks = a.padded_cols / 16, group_bytes = blocks * kBlockBytes;
  for (int64_t b = a.first; b < a.last; ++b) {
    for (int64_t line = 0; line < a.stride / 64; ++line) {
      for (int64_t l = 0; l < 4; ++l) {
        lane_block(a.weights + 16 * b * a.stride + 64 * line + 16 * l, a.stride,
                   a.blocks + line * 16 * group_bytes + kBlockBytes * b + kQuarterBytes * l, group_bytes);
      }
    }
  }
}

template <class Policy>
constexpr void add_sparse_kernels(KernelTable& table) {
  table.ternary_rows = ternary_rows<Policy>;
  table.ternary_columns = ternary_columns;
  table.rows_to_blocks = rows_to_blocks<F32x16>;
  table.columns_to_blocks = columns_to_blocks;
}

}  // namespace
}  // namespace bitnet::kernels::neon
