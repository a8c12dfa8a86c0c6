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

// Rows whose first lines are read before their second ones, while the next rows' lines are fetched into the
// second cache: from memory 19 GB/s on Zen 4, where rows read from end to end, four at a time, gave 14.5
// (sparse_benchmark, rows/33%/memory).
constexpr int64_t kBlockRows = 32;

// 16 lanes for each row that add up to its code sum, with a quarter of the second 16:
// |lane| <= 4 * 2 * 4 * 2 * 128 * cols / 256 < 2^31.
struct RowLanes {
  alignas(64) int32_t of[kBlockRows][2][16];
};

// The code sums of four rows.
inline __m128i sum_of_four(const RowLanes& lanes, int64_t row) {
  __m512i v[4];
  BITNET_UNROLL for (int r = 0; r < 4; ++r) {
    const __m512i fourfold = _mm512_load_si512(lanes.of[row + r][1]);
    v[r] = _mm512_add_epi32(_mm512_load_si512(lanes.of[row + r][0]), _mm512_srai_epi32(fourfold, 2));
  }
  const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  const __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  const __m256i d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
}

// Adds two lines of `count` rows, a multiple of 4, to their lanes, or starts them. The upper half of each
// byte is shifted down: two fields share an accumulator, the other two one that is 4 times as much.
template <bool kFetch>
inline void add_lines(const TernaryRowsArgs& a, const uint8_t* const* rows, const uint8_t* const* next,
                      int64_t count, int64_t offset, RowLanes& lanes) {
  __mmask64 mask[2];
  __m512i activations[2][4];
  BITNET_UNROLL for (int line = 0; line < 2; ++line) {
    const int64_t bytes = a.padded_cols / 4 - offset - 64 * line;
    mask[line] = bytes >= 64 ? ~__mmask64{0} : bytes > 0 ? (__mmask64{1} << bytes) - 1 : 0;
    BITNET_UNROLL for (int s = 0; s < 4; ++s) activations[line][s] =
        _mm512_maskz_loadu_epi8(mask[line], a.planes + s * a.plane_stride + offset + 64 * line);
  }
  for (int64_t i = 0; i < count; i += 4) {
    __m512i sum[4][2];
    BITNET_UNROLL for (int r = 0; r < 4; ++r) {
      BITNET_UNROLL for (int k = 0; k < 2; ++k) sum[r][k] =
          offset > 0 ? _mm512_load_si512(lanes.of[i + r][k]) : _mm512_setzero_si512();
    }
    BITNET_UNROLL for (int line = 0; line < 2; ++line) {
      BITNET_UNROLL for (int r = 0; r < 4; ++r) {
        if constexpr (kFetch) __builtin_prefetch(next[i + r] + offset + 64 * line, 0, 2);
        const __m512i codes = _mm512_maskz_loadu_epi8(mask[line], rows[i + r] + offset + 64 * line);
        const __m512i upper = _mm512_srli_epi16(codes, 4);
        add_products(sum[r][0], codes, 0, activations[line][0]);
        add_products(sum[r][1], codes, 1, activations[line][1]);
        add_products(sum[r][0], upper, 0, activations[line][2]);
        add_products(sum[r][1], upper, 1, activations[line][3]);
      }
    }
    BITNET_UNROLL for (int r = 0; r < 4; ++r) {
      BITNET_UNROLL for (int k = 0; k < 2; ++k) _mm512_store_si512(lanes.of[i + r][k], sum[r][k]);
    }
  }
}

// y of rows [i, i + 4) of the list from the lanes of rows [row, row + 4).
inline void store_four(const TernaryRowsArgs& a, int64_t i, const RowLanes& lanes, int64_t row) {
  const int64_t left = a.count - i;
  const auto mask = static_cast<__mmask8>(left >= 4 ? 0xf : (1 << left) - 1);
  const __m128i dot = _mm_sub_epi32(sum_of_four(lanes, row), _mm_set1_epi32(a.sum));
  const __m128i index = _mm_maskz_loadu_epi32(mask, a.rows + i);
  const __m128 row_scale = _mm_mmask_i32gather_ps(_mm_setzero_ps(), mask, index, a.row_scale, 4);
  _mm_mask_storeu_ps(a.y + i, mask,
                     _mm_mul_ps(_mm_cvtepi32_ps(dot), _mm_div_ps(row_scale, _mm_set1_ps(a.scale))));
}

// Where rows [first, first + kBlockRows) of the list begin; what the list lacks is its last row.
inline void locate_rows(const TernaryRowsArgs& a, int64_t first, const uint8_t* (&rows)[kBlockRows]) {
  for (int64_t i = 0; i < kBlockRows; ++i)
    rows[i] = a.weights + a.rows[first + i < a.count ? first + i : a.count - 1] * (a.padded_cols / 4);
}

// A block of rows of the list; with kFetch, the next one's come into the second cache.
template <bool kFetch>
inline void block_of_rows(const TernaryRowsArgs& a, int64_t first, const uint8_t* (&rows)[kBlockRows]) {
  const int64_t left = a.count - first, count = left < kBlockRows ? (left + 3) / 4 * 4 : kBlockRows;
  RowLanes lanes;
  const uint8_t* next[kBlockRows];
  if constexpr (kFetch) locate_rows(a, first + kBlockRows, next);
  for (int64_t offset = 0; offset < a.padded_cols / 4; offset += 128)
    add_lines<kFetch>(a, rows, next, count, offset, lanes);
  for (int64_t row = 0; row < count; row += 4) store_four(a, first + row, lanes, row);
  if constexpr (kFetch) __builtin_memcpy(rows, next, sizeof next);
}

void ternary_rows(const TernaryRowsArgs& a) {
  if (a.count == 0) return;
  const uint8_t* rows[kBlockRows];
  locate_rows(a, 0, rows);
  int64_t first = 0;
  for (; first + kBlockRows < a.count; first += kBlockRows) block_of_rows<true>(a, first, rows);
  block_of_rows<false>(a, first, rows);
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
