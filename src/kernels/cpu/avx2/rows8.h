#pragma once

// What the 256-bit products share: 8 rows in a ymm register.

#include "kernels/kernel_table.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx2 {
namespace {

constexpr int64_t kGroupRows = 16, kBlockCols = 16, kBlockBytes = 64;
constexpr int64_t kHalfRows = 8, kHalfBytes = 32;  // of a block

// Four activations as every dword.
inline __m256i broadcast4(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof four);
  return _mm256_set1_epi32(four);
}

inline __m256i load_half(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

// How many blocks may pass before an int16 sum of two vpmaddubsw a block, of codes times 4, is widened.
constexpr int kBlocksPerWidening = 8;
static_assert(kBlocksPerWidening * 2 * (2 * 4 * 2 * 128) <= 32768,
              "int16: -2^15 is the least value, not less");

// Adds neighbouring int16 into int32.
inline __m256i widen(__m256i sum16) {
  return _mm256_madd_epi16(sum16, _mm256_set1_epi16(1));
}

// Bits 2s and 2s + 1 of each byte.
inline __m256i code(__m256i block, int s) {
  return _mm256_and_si256(_mm256_srli_epi16(block, 2 * s), _mm256_set1_epi8(3));
}

// y of 8 rows of one token from their code sums.
inline void store_rows(const TernaryMatmulArgs& a, int64_t token, int64_t row, __m256i code_sum) {
  const int64_t rows = a.rows - row;
  if (rows <= 0) return;
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(rows < 8 ? rows : 8)), index);
  const __m256i dot = _mm256_sub_epi32(code_sum, _mm256_set1_epi32(a.sum[token]));
  const __m256 row_scale = _mm256_maskload_ps(a.row_scale + row, mask);
  const __m256 scale = _mm256_div_ps(row_scale, _mm256_set1_ps(a.scale[token]));
  _mm256_maskstore_ps(a.y + token * a.y_stride + row, mask, _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale));
}

}  // namespace
}  // namespace bitnet::kernels::avx2
