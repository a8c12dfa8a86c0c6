#pragma once

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/vnni_matmul.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx512vnni {
namespace {

// The 16 rows of a group as V of vnni_matmul.h.
struct Int32x16 {
  using Int = __m512i;
  static constexpr int64_t kRows = 16;
  static constexpr int kAccumulators = 24, kMaskedAccumulators = 24;

  static Int zero() { return _mm512_setzero_si512(); }
  static Int load(const void* p) { return _mm512_loadu_si512(p); }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int shift_right(Int v, unsigned count) { return _mm512_srai_epi32(v, count); }
  // Folded by the compiler into vpdpbusd's embedded broadcast.
  static Int broadcast4(const int8_t* q) {
    int32_t four;
    __builtin_memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Int mask(Int block, int s) {
    return _mm512_and_si512(block, _mm512_set1_epi8(static_cast<char>(3 << (2 * s))));
  }
  static Int code(Int block, int s) {
    return _mm512_and_si512(_mm512_srli_epi16(block, static_cast<unsigned>(2 * s)), _mm512_set1_epi8(3));
  }
  // The empty asm keeps GCC from moving the products of a tile apart, which spills accumulators
  // (kernels_benchmark, ternary/6912x2560/tokens:64/avx512vnni).
  static void dot(Int& sum, Int codes, Int activations) {
    sum = _mm512_dpbusd_epi32(sum, codes, activations);
    __asm__("" : "+v"(sum));
  }

  // y of 16 rows of one token from their code sums.
  static void store_rows(const TernaryMatmulArgs& a, int64_t token, int64_t row, Int code_sum) {
    const int64_t rows = a.rows - row;
    const auto mask = static_cast<__mmask16>(rows >= kRows ? 0xffffu : (1u << rows) - 1u);
    const Int dot = _mm512_sub_epi32(code_sum, _mm512_set1_epi32(a.sum[token]));
    const __m512 row_scale = _mm512_maskz_loadu_ps(mask, a.row_scale + row);
    const __m512 scale = _mm512_div_ps(row_scale, _mm512_set1_ps(a.scale[token]));
    _mm512_mask_storeu_ps(a.y + token * a.y_stride + row, mask,
                          _mm512_mul_ps(_mm512_cvtepi32_ps(dot), scale));
  }
};

// Few tokens wait for memory, which comes fastest as one stream: one group at a time. More wait for the
// products, and two groups at a time let one broadcast of activations serve two of them (kernels_benchmark,
// ternary/*).
template <class Tiles>
void multiply(const TernaryMatmulArgs& a) {
  constexpr int64_t kMostOfOneStream = 3;
  if (a.tokens <= kMostOfOneStream)
    multiply_tokens<Tiles, 1>(a, 0, a.tokens);
  else
    multiply_batches<Tiles, 2>(a);
}

inline void ternary_matmul(const TernaryMatmulArgs& a) {
  multiply<BlockTiles<Int32x16>>(a);
}

}  // namespace
}  // namespace bitnet::kernels::avx512vnni
