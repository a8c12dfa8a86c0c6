#pragma once

// The integers of a head scan with vpdpbusd (scan_kernels.h).

#include "kernels/cpu/avx512vnni/f32x16.h"
#include "kernels/cpu/float_kernels.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx512vnni {
namespace {

struct Scan {
  struct I4Block {
    __m512i four[8];  // columns, of 16 rows
  };
  static I4Block load_i4(const uint8_t* block) {
    const __m512i lower = _mm512_set1_epi8(15);
    I4Block codes;
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      const __m512i bytes = _mm512_loadu_si512(block + 64 * i);
      codes.four[2 * i] = _mm512_and_si512(bytes, lower);
      codes.four[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), lower);
    }
    return codes;
  }
  static F32x16 products(const I4Block& codes, const int8_t* hi, const int8_t* lo, int32_t offset) {
    __m512i high = _mm512_setzero_si512(), low = _mm512_set1_epi32(offset);
    BITNET_UNROLL for (int i = 0; i < 8; ++i) {
      high = _mm512_dpbusd_epi32(high, codes.four[i], broadcast4(hi + 4 * i));
      low = _mm512_dpbusd_epi32(low, codes.four[i], broadcast4(lo + 4 * i));
    }
    return {_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 7), low))};
  }

 private:
  static __m512i broadcast4(const int8_t* x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
  }
};

}  // namespace
}  // namespace bitnet::kernels::avx512vnni
