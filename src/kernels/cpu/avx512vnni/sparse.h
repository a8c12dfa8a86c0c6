#pragma once

// Products with chosen rows or columns of a ternary matrix (vpdpbusd, as in ternary_matmul.h: masked codes
// are 4^s * code, one accumulator for each s, an exact shift at the end), and their layouts as t2x16 blocks.

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/sparse_kernels.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx512vnni {
namespace {

inline __m512i field_mask(int s) {
  return _mm512_set1_epi8(static_cast<char>(3 << (2 * s)));
}

// sum + (codes & mask) * activations.
inline void add_products(__m512i& sum, __m512i codes, int s, __m512i activations) {
  sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(codes, field_mask(s)), activations);
}

constexpr int kTileRows = 4;
// Rows behind a tile's that are fetched meanwhile, into the second cache: into the first it takes three times
// as long on Zen 4 (sparse_benchmark, rows/*/memory).
constexpr int kAheadRows = 16;

// 16 lanes that add up to the code sum of one row: |lane| <= 4 * 2 * 128 * 64 * cols / 256 < 2^31.
template <int kRows>
inline void row_lanes(const TernaryRowsArgs& a, const uint8_t* const (&w)[kRows],
                      const uint8_t* const (&next)[kRows], __m512i (&lanes)[kRows]) {
  const int64_t row_bytes = a.padded_cols / 4;
  __m512i sum[kRows][4];
  BITNET_UNROLL for (int r = 0; r < kRows; ++r) {
    BITNET_UNROLL for (int s = 0; s < 4; ++s) sum[r][s] = _mm512_setzero_si512();
  }
  const auto add = [&](int64_t offset, auto load) __attribute__((always_inline)) {
    __m512i activations[4];
    BITNET_UNROLL for (int s = 0; s < 4; ++s) activations[s] =
        _mm512_loadu_si512(a.planes + s * a.plane_stride + offset);
    BITNET_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m512i codes = load(w[r] + offset);
      BITNET_UNROLL for (int s = 0; s < 4; ++s) add_products(sum[r][s], codes, s, activations[s]);
    }
  };
  int64_t offset = 0;
  for (; offset + 64 <= row_bytes; offset += 64) {
    BITNET_UNROLL for (int r = 0; r < kRows; ++r) __builtin_prefetch(next[r] + offset, 0, 2);
    add(offset, [](const uint8_t* p) { return _mm512_loadu_si512(p); });
  }
  if (offset < row_bytes) {
    const __mmask64 mask = (__mmask64{1} << (row_bytes - offset)) - 1;
    add(offset, [mask](const uint8_t* p) { return _mm512_maskz_loadu_epi8(mask, p); });
  }
  BITNET_UNROLL for (int r = 0; r < kRows; ++r) {
    const __m512i low = _mm512_add_epi32(sum[r][0], _mm512_srai_epi32(sum[r][1], 2));
    const __m512i high = _mm512_add_epi32(_mm512_srai_epi32(sum[r][2], 4), _mm512_srai_epi32(sum[r][3], 6));
    lanes[r] = _mm512_add_epi32(low, high);
  }
}

// The sum of each of four vectors.
inline __m128i sum_of_four(const __m512i (&v)[4]) {
  const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  const __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  const __m256i d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
}

inline void four_rows(const TernaryRowsArgs& a, int64_t i) {
  const int64_t row_bytes = a.padded_cols / 4;
  const uint8_t *w[kTileRows], *next[kTileRows];
  BITNET_UNROLL for (int r = 0; r < kTileRows; ++r) {
    const int64_t ahead = i + kAheadRows + r;
    w[r] = a.weights + a.rows[i + r] * row_bytes;
    next[r] = a.weights + a.rows[ahead < a.count ? ahead : i + r] * row_bytes;
  }
  __m512i lanes[kTileRows];
  row_lanes<kTileRows>(a, w, next, lanes);
  const __m128i dot = _mm_sub_epi32(sum_of_four(lanes), _mm_set1_epi32(a.sum));
  const int32_t* row = a.rows + i;
  const __m128 row_scale =
      _mm_setr_ps(a.row_scale[row[0]], a.row_scale[row[1]], a.row_scale[row[2]], a.row_scale[row[3]]);
  _mm_storeu_ps(a.y + i, _mm_mul_ps(_mm_cvtepi32_ps(dot), _mm_div_ps(row_scale, _mm_set1_ps(a.scale))));
}

void ternary_rows(const TernaryRowsArgs& a) {
  int64_t i = 0;
  for (; i + kTileRows <= a.count; i += kTileRows) four_rows(a, i);
  for (; i < a.count; ++i) {
    const uint8_t* const w[1] = {a.weights + a.rows[i] * (a.padded_cols / 4)};
    __m512i lanes[1];
    row_lanes<1>(a, w, w, lanes);
    const int32_t dot = _mm512_reduce_add_epi32(lanes[0]) - a.sum;
    a.y[i] = static_cast<float>(dot) * (a.row_scale[a.rows[i]] / a.scale);
  }
}

// Bytes of four vectors interleaved: out[u] holds, for each lane of 16 bytes, bytes 4u..4u+3, four columns
// each.
inline void interleave(const __m512i (&column)[4], __m512i (&out)[4]) {
  const __m512i low01 = _mm512_unpacklo_epi8(column[0], column[1]),
                high01 = _mm512_unpackhi_epi8(column[0], column[1]);
  const __m512i low23 = _mm512_unpacklo_epi8(column[2], column[3]),
                high23 = _mm512_unpackhi_epi8(column[2], column[3]);
  out[0] = _mm512_unpacklo_epi16(low01, low23);
  out[1] = _mm512_unpackhi_epi16(low01, low23);
  out[2] = _mm512_unpacklo_epi16(high01, high23);
  out[3] = _mm512_unpackhi_epi16(high01, high23);
}

// Columns whose lines are summed before the next line's turn; the same lines of as many columns are fetched
// ahead, into the second cache (sparse_benchmark, columns/*/memory).
constexpr int64_t kBlockColumns = 64;

// Adds columns [begin, end) of the lists to the 256 sums of a line, or starts them. |accumulator| <= 64 * 2 *
// 128 * kBlockColumns = 2^20.
inline void add_columns(const TernaryColumnsArgs& a, const uint8_t* line, int64_t begin, int64_t end,
                        int32_t* sums) {
  __m512i sum[4][4];
  for (auto& quarter : sum) {
    for (__m512i& s : quarter) s = _mm512_setzero_si512();
  }
  for (int64_t i = begin; i < end; i += 4) {
    if (i + kBlockColumns < a.count) {
      BITNET_UNROLL for (int j = 0; j < 4; ++j)
          __builtin_prefetch(line + a.columns[i + kBlockColumns + j] * a.stride, 0, 2);
    }
    __m512i column[4], codes[4];
    BITNET_UNROLL for (int j = 0; j < 4; ++j) column[j] =
        _mm512_loadu_si512(line + a.columns[i + j] * a.stride);
    interleave(column, codes);
    int32_t four;
    __builtin_memcpy(&four, a.q + i, sizeof four);
    const __m512i activations = _mm512_set1_epi32(four);
    BITNET_UNROLL for (int u = 0; u < 4; ++u) {
      BITNET_UNROLL for (int s = 0; s < 4; ++s) add_products(sum[u][s], codes[u], s, activations);
    }
  }
  BITNET_UNROLL for (int u = 0; u < 4; ++u) {
    BITNET_UNROLL for (int s = 0; s < 4; ++s) {
      int32_t* out = sums + 64 * u + 16 * s;
      __m512i total = _mm512_srai_epi32(sum[u][s], static_cast<unsigned>(2 * s));
      if (begin > 0) total = _mm512_add_epi32(total, _mm512_loadu_si512(out));
      _mm512_storeu_si512(out, total);
    }
  }
}

void ternary_columns(const TernaryColumnsArgs& a) {
  int64_t begin = 0;
  do {
    const int64_t end = a.count - begin < kBlockColumns ? a.count : begin + kBlockColumns;
    for (int64_t line = a.first_line; line < a.last_line; ++line)
      add_columns(a, a.weights + 64 * line, begin, end, a.sums + 256 * (line - a.first_line));
    begin = end;
  } while (begin < a.count);
}

// Words r of vector i <-> words i of vector r.
inline void transpose_16x16(__m512i (&v)[16]) {
  __m512i a[16];
  BITNET_UNROLL for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  // v[4k + j]: of each 16-byte lane, word j of rows 4k..4k+3.
  BITNET_UNROLL for (int k = 0; k < 16; k += 4) {
    v[k] = _mm512_unpacklo_epi64(a[k], a[k + 2]);
    v[k + 1] = _mm512_unpackhi_epi64(a[k], a[k + 2]);
    v[k + 2] = _mm512_unpacklo_epi64(a[k + 1], a[k + 3]);
    v[k + 3] = _mm512_unpackhi_epi64(a[k + 1], a[k + 3]);
  }
  // A 4x4 transposition of lanes: lane l of v[4k + j] becomes lane k of vector 4l + j.
  BITNET_UNROLL for (int j = 0; j < 4; ++j) {
    const __m512i even01 = _mm512_shuffle_i32x4(v[j], v[4 + j], 0x88),
                  odd01 = _mm512_shuffle_i32x4(v[j], v[4 + j], 0xdd);
    const __m512i even23 = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0x88),
                  odd23 = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0xdd);
    a[j] = _mm512_shuffle_i32x4(even01, even23, 0x88);
    a[8 + j] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
    a[4 + j] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
    a[12 + j] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
  }
  BITNET_UNROLL for (int i = 0; i < 16; ++i) v[i] = a[i];
}

void rows_to_blocks(const TranscodeArgs& a) {
  const int64_t blocks = a.padded_cols / 16;
  for (int64_t group = a.first; group < a.last; ++group) {
    const uint8_t* rows = a.weights + 16 * group * a.stride;
    uint8_t* out = a.blocks + group * blocks * 64;
    int64_t b = 0;
    for (; b + 16 <= blocks; b += 16) {
      __m512i v[16];
      BITNET_UNROLL for (int r = 0; r < 16; ++r) v[r] = _mm512_loadu_si512(rows + r * a.stride + 4 * b);
      transpose_16x16(v);
      BITNET_UNROLL for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + 64 * (b + i), v[i]);
    }
    copy_words<F32x16>(rows, a.stride, b, blocks, out);
  }
}

// Swaps fields: those of x above `width` bits with those of y below, where the mask has them.
template <int kWidth>
inline void exchange(__m512i& x, __m512i& y, __m512i mask) {
  const __m512i differences = _mm512_and_si512(_mm512_xor_si512(_mm512_srli_epi32(x, kWidth), y), mask);
  y = _mm512_xor_si512(y, differences);
  x = _mm512_xor_si512(x, _mm512_slli_epi32(differences, kWidth));
}

// One block of 16 columns of a line: field s of the codes of columns 4t..4t+3 becomes field t of group 4u +
// s.
inline void line_block(const uint8_t* columns, int64_t stride, uint8_t* out, int64_t group_bytes) {
  __m512i codes[4][4];
  BITNET_UNROLL for (int t = 0; t < 4; ++t) {
    __m512i column[4];
    BITNET_UNROLL for (int j = 0; j < 4; ++j) column[j] = _mm512_loadu_si512(columns + (4 * t + j) * stride);
    interleave(column, codes[t]);
  }
  const __m512i odd = _mm512_set1_epi8(0x33), upper = _mm512_set1_epi8(0x0f);
  BITNET_UNROLL for (int u = 0; u < 4; ++u) {
    exchange<2>(codes[0][u], codes[1][u], odd);
    exchange<2>(codes[2][u], codes[3][u], odd);
    exchange<4>(codes[0][u], codes[2][u], upper);
    exchange<4>(codes[1][u], codes[3][u], upper);
    BITNET_UNROLL for (int s = 0; s < 4; ++s)
        _mm512_storeu_si512(out + (4 * u + s) * group_bytes, codes[s][u]);
  }
}

void columns_to_blocks(const TranscodeArgs& a) {
  const int64_t blocks = a.padded_cols / 16, group_bytes = blocks * 64;
  for (int64_t b = a.first; b < a.last; ++b) {
    for (int64_t line = 0; line < a.stride / 64; ++line) {
      line_block(a.weights + 16 * b * a.stride + 64 * line, a.stride,
                 a.blocks + line * 16 * group_bytes + 64 * b, group_bytes);
    }
  }
}

int64_t list_open(const float* gate, int64_t first, int64_t last, int32_t* rows) {
  __m512i index = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(first)),
                                   _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  int64_t count = 0;
  for (int64_t i = first; i < last; i += kLanes, index = _mm512_add_epi32(index, _mm512_set1_epi32(kLanes))) {
    const auto valid = static_cast<__mmask16>(last - i >= kLanes ? 0xffffu : (1u << (last - i)) - 1u);
    const __m512 g = _mm512_maskz_loadu_ps(valid, gate + i);
    const __mmask16 open = _mm512_mask_cmp_ps_mask(valid, g, _mm512_setzero_ps(), _CMP_NLE_UQ);
    _mm512_storeu_si512(rows + count, _mm512_maskz_compress_epi32(open, index));
    count += __builtin_popcount(open);
  }
  return count;
}

int64_t list_nonzero(const int8_t* q, int64_t first, int64_t last, int32_t* columns, int8_t* values) {
  __m512i index = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(first)),
                                   _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  int64_t count = 0;
  for (int64_t i = first; i < last; i += kLanes, index = _mm512_add_epi32(index, _mm512_set1_epi32(kLanes))) {
    const auto valid = static_cast<__mmask16>(last - i >= kLanes ? 0xffffu : (1u << (last - i)) - 1u);
    const __m512i value = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(valid, q + i));
    const __mmask16 nonzero = _mm512_test_epi32_mask(value, value);
    _mm512_storeu_si512(columns + count, _mm512_maskz_compress_epi32(nonzero, index));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values + count),
                     _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(nonzero, value)));
    count += __builtin_popcount(nonzero);
  }
  return count;
}

constexpr void add_sparse_kernels(KernelTable& table) {
  table.ternary_rows = ternary_rows;
  table.ternary_columns = ternary_columns;
  table.rows_to_blocks = rows_to_blocks;
  table.columns_to_blocks = columns_to_blocks;
  table.list_open = list_open;
  table.list_nonzero = list_nonzero;
}

}  // namespace
}  // namespace bitnet::kernels::avx512vnni
