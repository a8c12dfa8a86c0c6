#pragma once

// The integers of a head scan with vpdpbusd (scan_kernels.h).

#include "kernels/cpu/avx512vnni/f32x16.h"
#include "kernels/cpu/float_kernels.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx512vnni {
namespace {

struct Scan {
  struct Q6Unit {
    __m512i four[4];  // columns, of 16 rows
  };
  static Q6Unit load_q6(const uint8_t* unit) {
    const __m512i six = _mm512_set1_epi8(63);
    Q6Unit codes;
    __m512i bytes[3];
    BITNET_UNROLL for (int u = 0; u < 3; ++u) {
      bytes[u] = _mm512_loadu_si512(unit + 64 * u);
      codes.four[u] = _mm512_and_si512(bytes[u], six);
    }
    // Shifts of 16-bit lanes let bits of neighbouring bytes in, which the selections take out.
    const __m512i first = _mm512_srli_epi16(bytes[0], 6), second = _mm512_srli_epi16(bytes[1], 4),
                  third = _mm512_srli_epi16(bytes[2], 2);
    const __m512i lower = select(_mm512_set1_epi8(3), first, second);
    codes.four[3] = _mm512_and_si512(select(_mm512_set1_epi8(15), lower, third), six);
    return codes;
  }
  static F32x16 products(const Q6Unit& codes, const int8_t* hi, const int8_t* lo, int32_t offset) {
    __m512i high = _mm512_setzero_si512(), low = _mm512_set1_epi32(offset);
    BITNET_UNROLL for (int u = 0; u < 4; ++u) {
      add(high, codes.four[u], hi + 4 * u);
      add(low, codes.four[u], lo + 4 * u);
    }
    return {_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 7), low))};
  }

  using I8Sum = __m512i;
  static void clear(I8Sum& sum) { sum = _mm512_setzero_si512(); }
  static __m512i load_i8(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static void add(I8Sum& sum, __m512i block, const int8_t* four) {
    int32_t activations;
    __builtin_memcpy(&activations, four, sizeof activations);
    sum = _mm512_dpbusd_epi32(sum, block, _mm512_set1_epi32(activations));
  }
  static void merge(I8Sum& sum, I8Sum other) { sum = _mm512_add_epi32(sum, other); }
  static F32x16 rows(I8Sum sum, int32_t activation_sum) {
    return {_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(128 * activation_sum)))};
  }

 private:
  // mask ? a : b, bit by bit
  static __m512i select(__m512i mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
  }
};

}  // namespace
}  // namespace bitnet::kernels::avx512vnni
