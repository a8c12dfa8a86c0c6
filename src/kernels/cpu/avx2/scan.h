#pragma once

// The integers of a head scan with vpmaddubsw (scan_kernels.h).

#include "kernels/cpu/avx2/f32x16.h"
#include "kernels/cpu/float_kernels.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx2 {
namespace {

struct Scan {
  struct I4Block {
    __m256i bytes[4][2];  // eight columns each, of 8 rows each
  };
  static I4Block load_i4(const uint8_t* block) {
    I4Block codes;
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      BITNET_UNROLL for (int h = 0; h < 2; ++h) codes.bytes[i][h] =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 64 * i + 32 * h));
    }
    return codes;
  }
  static F32x16 products(const I4Block& codes, const int8_t* hi, const int8_t* lo, int32_t offset) {
    return {eight_rows(codes, 0, hi, lo, offset), eight_rows(codes, 1, hi, lo, offset)};
  }

 private:
  static __m256 eight_rows(const I4Block& codes, int h, const int8_t* hi, const int8_t* lo, int32_t offset) {
    // Eight products of vpmaddubsw fit int16.
    static_assert(8 * 2 * 15 * 128 < 1 << 15);
    const __m256i lower = _mm256_set1_epi8(15);
    __m256i high = _mm256_setzero_si256(), low = _mm256_setzero_si256();
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      const __m256i bytes = codes.bytes[i][h];
      const __m256i four[2] = {_mm256_and_si256(bytes, lower),
                               _mm256_and_si256(_mm256_srli_epi16(bytes, 4), lower)};
      BITNET_UNROLL for (int n = 0; n < 2; ++n) {
        high = _mm256_add_epi16(high, _mm256_maddubs_epi16(four[n], broadcast4(hi + 8 * i + 4 * n)));
        low = _mm256_add_epi16(low, _mm256_maddubs_epi16(four[n], broadcast4(lo + 8 * i + 4 * n)));
      }
    }
    const __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(128)),
                                         _mm256_madd_epi16(low, _mm256_set1_epi16(1)));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(sum, _mm256_set1_epi32(offset)));
  }
  static __m256i broadcast4(const int8_t* x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }
};

}  // namespace
}  // namespace bitnet::kernels::avx2
