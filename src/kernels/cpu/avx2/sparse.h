#pragma once

// Products with chosen rows or columns of a ternary matrix (vpmaddubsw, as in ternary_matmul.h), and their
// layouts as t2x16 blocks.

#include "kernels/cpu/avx2/rows8.h"
#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/sparse_kernels.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx2 {
namespace {

// Four codes a byte: those of fields 0 and 2 as they are, those of 1 and 3 times 4, which saves their shift.
struct Fields {
  __m256i unit[2], times4[2];
};
inline Fields split(__m256i packed) {
  const __m256i low = _mm256_set1_epi8(0x03), high = _mm256_set1_epi8(0x0c);
  const __m256i upper = _mm256_srli_epi16(packed, 4);
  return {{_mm256_and_si256(packed, low), _mm256_and_si256(upper, low)},
          {_mm256_and_si256(packed, high), _mm256_and_si256(upper, high)}};
}

inline int32_t sum_of_lanes(__m256i v) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

// The bytes of a row behind its last whole vector, zeros behind the row: whole words.
inline __m256i load_words(const uint8_t* p, int64_t bytes) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(bytes / 4)), index);
  return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), mask);
}

// Products of 32 bytes of a row with their 128 activations. Each int16 sum takes two vpmaddubsw.
inline void add_row_bytes(const TernaryRowsArgs& a, __m256i packed, int64_t offset, __m256i& unit16,
                          __m256i& times4_16) {
  const Fields codes = split(packed);
  const auto activations = [&](int64_t s) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.planes + s * a.plane_stride + offset));
  };
  unit16 = _mm256_add_epi16(unit16, _mm256_add_epi16(_mm256_maddubs_epi16(codes.unit[0], activations(0)),
                                                     _mm256_maddubs_epi16(codes.unit[1], activations(2))));
  times4_16 =
      _mm256_add_epi16(times4_16, _mm256_add_epi16(_mm256_maddubs_epi16(codes.times4[0], activations(1)),
                                                   _mm256_maddubs_epi16(codes.times4[1], activations(3))));
}

// The code sum of one row; `next` is fetched meanwhile. int16 as in one_token (kBlocksPerWidening).
inline int32_t row_sum(const TernaryRowsArgs& a, const uint8_t* row, const uint8_t* next) {
  const int64_t row_bytes = a.padded_cols / 4;
  __m256i total = _mm256_setzero_si256();
  for (int64_t offset = 0; offset < row_bytes;) {
    __m256i unit16 = _mm256_setzero_si256(), times4_16 = _mm256_setzero_si256();
    for (int i = 0; i < kBlocksPerWidening && offset < row_bytes; ++i, offset += 32) {
      __builtin_prefetch(next + offset, 0, 2);
      const int64_t left = row_bytes - offset;
      add_row_bytes(a, left >= 32 ? load_half(row + offset) : load_words(row + offset, left), offset, unit16,
                    times4_16);
    }
    total = _mm256_add_epi32(total, _mm256_add_epi32(widen(unit16), _mm256_srai_epi32(widen(times4_16), 2)));
  }
  return sum_of_lanes(total);
}

void ternary_rows(const TernaryRowsArgs& a) {
  const int64_t row_bytes = a.padded_cols / 4;
  constexpr int64_t kAhead = 16;  // sparse_benchmark, rows/*/memory
  for (int64_t i = 0; i < a.count; ++i) {
    const int64_t ahead = i + kAhead < a.count ? i + kAhead : i;
    const int32_t dot =
        row_sum(a, a.weights + a.rows[i] * row_bytes, a.weights + a.rows[ahead] * row_bytes) - a.sum;
    a.y[i] = static_cast<float>(dot) * (a.row_scale[a.rows[i]] / a.scale);
  }
}

// Columns whose half lines are summed before the next half's turn: two at a time, with at most 32768 / (2 * 4
// * 2 * 128) = 16 additions to an int16.
constexpr int64_t kBlockColumns = 32;
constexpr int64_t kAheadColumns = 64;  // sparse_benchmark, columns/*/memory
static_assert(kBlockColumns / 2 * (2 * 4 * 2 * 128) <= 32768, "int16: -2^15 is the least value, not less");

// 16 sums of int16, of which those of bytes 0..3 (4..7) of each lane of 16 bytes are 8 consecutive rows.
inline void store_sums(__m256i sum16, int shift, bool start, int32_t* low_rows, int32_t* high_rows) {
  const auto store = [&](__m256i sum32, int32_t* out) {
    auto* const place = reinterpret_cast<__m256i*>(out);
    const __m256i total = _mm256_srai_epi32(sum32, shift);
    _mm256_storeu_si256(place, start ? total : _mm256_add_epi32(total, _mm256_loadu_si256(place)));
  };
  store(_mm256_srai_epi32(_mm256_unpacklo_epi16(sum16, sum16), 16), low_rows);
  store(_mm256_srai_epi32(_mm256_unpackhi_epi16(sum16, sum16), 16), high_rows);
}

// Adds columns [begin, end) of the lists to the 128 sums of half a line, or starts them. sums: of the line,
// from the half's first row (row 0 or 8 of each 16).
inline void add_columns(const TernaryColumnsArgs& a, const uint8_t* half, int64_t begin, int64_t end,
                        int32_t* sums) {
  __m256i unit16[2][2], times4_16[2][2];
  BITNET_UNROLL for (int v = 0; v < 2; ++v) {
    BITNET_UNROLL for (int f = 0; f < 2; ++f) unit16[v][f] = times4_16[v][f] = _mm256_setzero_si256();
  }
  for (int64_t i = begin; i < end; i += 2) {
    if (i + kAheadColumns < a.count) {
      __builtin_prefetch(half + a.columns[i + kAheadColumns] * a.stride, 0, 2);
      __builtin_prefetch(half + a.columns[i + kAheadColumns + 1] * a.stride, 0, 2);
    }
    const __m256i first = load_half(half + a.columns[i] * a.stride),
                  second = load_half(half + a.columns[i + 1] * a.stride);
    int16_t two;
    __builtin_memcpy(&two, a.q + i, sizeof two);
    const __m256i activations = _mm256_set1_epi16(two);
    const __m256i pairs[2] = {_mm256_unpacklo_epi8(first, second), _mm256_unpackhi_epi8(first, second)};
    BITNET_UNROLL for (int v = 0; v < 2; ++v) {
      const Fields codes = split(pairs[v]);
      BITNET_UNROLL for (int f = 0; f < 2; ++f) {
        unit16[v][f] = _mm256_add_epi16(unit16[v][f], _mm256_maddubs_epi16(codes.unit[f], activations));
        times4_16[v][f] =
            _mm256_add_epi16(times4_16[v][f], _mm256_maddubs_epi16(codes.times4[f], activations));
      }
    }
  }
  // Vector v holds bytes 8v..8v+7 of each lane, field s the rows from 16 s on; byte 4u + j row 64 u + 16 s +
  // j.
  BITNET_UNROLL for (int v = 0; v < 2; ++v) {
    BITNET_UNROLL for (int f = 0; f < 2; ++f) {
      int32_t* out = sums + 128 * v + 32 * f;
      store_sums(unit16[v][f], 0, begin == 0, out, out + 64);
      store_sums(times4_16[v][f], 2, begin == 0, out + 16, out + 80);
    }
  }
}

void ternary_columns(const TernaryColumnsArgs& a) {
  int64_t begin = 0;
  do {
    const int64_t end = a.count - begin < kBlockColumns ? a.count : begin + kBlockColumns;
    for (int64_t line = a.first_line; line < a.last_line; ++line) {
      for (int64_t h = 0; h < 2; ++h)
        add_columns(a, a.weights + 64 * line + 32 * h, begin, end,
                    a.sums + 256 * (line - a.first_line) + 8 * h);
    }
    begin = end;
  } while (begin < a.count);
}

// Words r of vector i <-> words i of vector r.
inline void transpose_8x8(__m256i (&v)[8]) {
  __m256i a[8];
  BITNET_UNROLL for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  BITNET_UNROLL for (int k = 0; k < 8; k += 4) {
    v[k] = _mm256_unpacklo_epi64(a[k], a[k + 2]);
    v[k + 1] = _mm256_unpackhi_epi64(a[k], a[k + 2]);
    v[k + 2] = _mm256_unpacklo_epi64(a[k + 1], a[k + 3]);
    v[k + 3] = _mm256_unpackhi_epi64(a[k + 1], a[k + 3]);
  }
  BITNET_UNROLL for (int j = 0; j < 4; ++j) {
    a[j] = _mm256_permute2x128_si256(v[j], v[4 + j], 0x20);
    a[4 + j] = _mm256_permute2x128_si256(v[j], v[4 + j], 0x31);
  }
  BITNET_UNROLL for (int i = 0; i < 8; ++i) v[i] = a[i];
}

inline void store_half(uint8_t* p, __m256i v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}

void rows_to_blocks(const TranscodeArgs& a) {
  const int64_t blocks = a.padded_cols / 16;
  for (int64_t group = a.first; group < a.last; ++group) {
    const uint8_t* rows = a.weights + 16 * group * a.stride;
    uint8_t* out = a.blocks + group * blocks * kBlockBytes;
    int64_t b = 0;
    for (; b + 8 <= blocks; b += 8) {
      for (int h = 0; h < 2; ++h) {
        __m256i v[8];
        BITNET_UNROLL for (int r = 0; r < 8; ++r) v[r] = load_half(rows + (8 * h + r) * a.stride + 4 * b);
        transpose_8x8(v);
        BITNET_UNROLL for (int i = 0; i < 8; ++i)
            store_half(out + kBlockBytes * (b + i) + kHalfBytes * h, v[i]);
      }
    }
    copy_words<F32x16>(rows, a.stride, b, blocks, out);
  }
}

// Swaps fields: those of x above `width` bits with those of y below, where the mask has them.
template <int kWidth>
inline void exchange(__m256i& x, __m256i& y, __m256i mask) {
  const __m256i differences = _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi32(x, kWidth), y), mask);
  y = _mm256_xor_si256(y, differences);
  x = _mm256_xor_si256(x, _mm256_slli_epi32(differences, kWidth));
}

// Half a block of 16 columns of a line: field s of the codes of columns 4t..4t+3 becomes field t of group 4u
// + s.
inline void half_line_block(const uint8_t* columns, int64_t stride, uint8_t* out, int64_t group_bytes) {
  __m256i codes[4][4];
  BITNET_UNROLL for (int t = 0; t < 4; ++t) {
    __m256i column[4];
    BITNET_UNROLL for (int j = 0; j < 4; ++j) column[j] = load_half(columns + (4 * t + j) * stride);
    const __m256i low01 = _mm256_unpacklo_epi8(column[0], column[1]);
    const __m256i high01 = _mm256_unpackhi_epi8(column[0], column[1]);
    const __m256i low23 = _mm256_unpacklo_epi8(column[2], column[3]);
    const __m256i high23 = _mm256_unpackhi_epi8(column[2], column[3]);
    codes[t][0] = _mm256_unpacklo_epi16(low01, low23);
    codes[t][1] = _mm256_unpackhi_epi16(low01, low23);
    codes[t][2] = _mm256_unpacklo_epi16(high01, high23);
    codes[t][3] = _mm256_unpackhi_epi16(high01, high23);
  }
  const __m256i odd = _mm256_set1_epi8(0x33), upper = _mm256_set1_epi8(0x0f);
  BITNET_UNROLL for (int u = 0; u < 4; ++u) {
    exchange<2>(codes[0][u], codes[1][u], odd);
    exchange<2>(codes[2][u], codes[3][u], odd);
    exchange<4>(codes[0][u], codes[2][u], upper);
    exchange<4>(codes[1][u], codes[3][u], upper);
    BITNET_UNROLL for (int s = 0; s < 4; ++s) store_half(out + (4 * u + s) * group_bytes, codes[s][u]);
  }
}

void columns_to_blocks(const TranscodeArgs& a) {
  const int64_t blocks = a.padded_cols / 16, group_bytes = blocks * kBlockBytes;
  for (int64_t b = a.first; b < a.last; ++b) {
    for (int64_t line = 0; line < a.stride / 64; ++line) {
      for (int64_t h = 0; h < 2; ++h) {
        half_line_block(a.weights + 16 * b * a.stride + 64 * line + kHalfBytes * h, a.stride,
                        a.blocks + line * 16 * group_bytes + kBlockBytes * b + kHalfBytes * h, group_bytes);
      }
    }
  }
}

constexpr void add_sparse_kernels(KernelTable& table) {
  table.ternary_rows = ternary_rows;
  table.ternary_columns = ternary_columns;
  table.rows_to_blocks = rows_to_blocks;
  table.columns_to_blocks = columns_to_blocks;
}

}  // namespace
}  // namespace bitnet::kernels::avx2
