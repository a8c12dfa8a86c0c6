#pragma once

#include "kernels/cpu/avx2/rows8.h"
#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/vnni_matmul.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avxvnni {
namespace {

// Half of a group's rows as V of vnni_matmul.h. Dot is the
// instruction, or its emulation in tests/kernels/avx_vnni_test.cpp.
template <class Dot>
struct Int32x8 {
  using Int = __m256i;
  static constexpr int64_t kRows = avx2::kHalfRows;
  static constexpr int kAccumulators = 12, kMaskedAccumulators = 8;  // of 16 registers

  static Int zero() { return _mm256_setzero_si256(); }
  static Int load(const void* p) { return avx2::load_half(p); }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int shift_right(Int v, int count) { return _mm256_srai_epi32(v, count); }
  static Int broadcast4(const int8_t* q) { return avx2::broadcast4(q); }
  static Int mask(Int block, int s) {
    return _mm256_and_si256(block, _mm256_set1_epi8(static_cast<char>(3 << (2 * s))));
  }
  static Int code(Int block, int s) { return avx2::code(block, s); }
  // The empty asm keeps GCC from moving the products of a tile apart, which spills accumulators.
  static void dot(Int& sum, Int codes, Int activations) {
    sum = Dot::dot(sum, codes, activations);
    __asm__("" : "+x"(sum));
  }
  static void store_rows(const TernaryMatmulArgs& a, int64_t token, int64_t row, Int code_sum) {
    avx2::store_rows(a, token, row, code_sum);
  }
};

// Whole groups, except for two tokens: their masked accumulators fill the registers with half a group.
template <class Dot>
void ternary_matmul(const TernaryMatmulArgs& a) {
  using Tiles = BlockTiles<Int32x8<Dot>>;
  if (a.tokens == 2)
    multiply_tokens<Tiles, 1>(a, 0, a.tokens);
  else
    multiply_batches<Tiles, 2>(a);
}

}  // namespace
}  // namespace bitnet::kernels::avxvnni
