#pragma once

// The integers of a head scan with vpmaddubsw (scan_kernels.h).

#include "kernels/cpu/avx2/f32x16.h"
#include "kernels/cpu/float_kernels.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx2 {
namespace {

struct Scan {
  struct Q6Unit {
    __m256i four[4][2];  // columns, of 8 rows each
  };
  static Q6Unit load_q6(const uint8_t* unit) {
    const __m256i six = _mm256_set1_epi8(63), upper = _mm256_set1_epi8(3);
    Q6Unit codes;
    BITNET_UNROLL for (int h = 0; h < 2; ++h) {
      // Shifts of 16-bit lanes let bits of neighbouring bytes in, which the masks take out.
      __m256i last = _mm256_setzero_si256();
      BITNET_UNROLL for (int u = 2; u >= 0; --u) {
        const __m256i bytes = load(unit + 64 * u + 32 * h);
        codes.four[u][h] = _mm256_and_si256(bytes, six);
        last =
            _mm256_or_si256(_mm256_slli_epi16(last, 2), _mm256_and_si256(_mm256_srli_epi16(bytes, 6), upper));
      }
      codes.four[3][h] = last;
    }
    return codes;
  }
  // Two vpmaddubsw fit int16: 2 * 2 * 63 * 128 = 32256.
  static F32x16 products(const Q6Unit& codes, const int8_t* hi, const int8_t* lo, int32_t offset) {
    __m256i sum[2] = {_mm256_set1_epi32(offset), _mm256_set1_epi32(offset)};
    BITNET_UNROLL for (int h = 0; h < 2; ++h) {
      BITNET_UNROLL for (int u = 0; u < 4; u += 2) {
        const auto eight = [&](const int8_t* q) {
          return _mm256_add_epi16(_mm256_maddubs_epi16(codes.four[u][h], broadcast4(q + 4 * u)),
                                  _mm256_maddubs_epi16(codes.four[u + 1][h], broadcast4(q + 4 * u + 4)));
        };
        sum[h] = _mm256_add_epi32(sum[h], _mm256_madd_epi16(eight(hi), _mm256_set1_epi16(128)));
        sum[h] = _mm256_add_epi32(sum[h], _mm256_madd_epi16(eight(lo), _mm256_set1_epi16(1)));
      }
    }
    return {_mm256_cvtepi32_ps(sum[0]), _mm256_cvtepi32_ps(sum[1])};
  }

  struct I8Sum {
    __m256i half[2];
  };
  struct I8Block {
    __m256i weight[2], magnitude[2];
  };
  static void clear(I8Sum& sum) { sum.half[0] = sum.half[1] = _mm256_setzero_si256(); }
  static I8Block load_i8(const uint8_t* p) {
    I8Block block;
    BITNET_UNROLL for (int h = 0; h < 2; ++h) {
      block.weight[h] = _mm256_xor_si256(load(p + 32 * h), _mm256_set1_epi8(-128));
      block.magnitude[h] = _mm256_abs_epi8(block.weight[h]);
    }
    return block;
  }
  // |w| * (sign(w) q): vpmaddubsw cannot saturate, 2 * 127 * 127 = 32258.
  static void add(I8Sum& sum, const I8Block& block, const int8_t* four) {
    const __m256i q = broadcast4(four);
    BITNET_UNROLL for (int h = 0; h < 2; ++h) {
      const __m256i two = _mm256_maddubs_epi16(block.magnitude[h], _mm256_sign_epi8(q, block.weight[h]));
      sum.half[h] = _mm256_add_epi32(sum.half[h], _mm256_madd_epi16(two, _mm256_set1_epi16(1)));
    }
  }
  static void merge(I8Sum& sum, const I8Sum& other) {
    BITNET_UNROLL for (int h = 0; h < 2; ++h) sum.half[h] = _mm256_add_epi32(sum.half[h], other.half[h]);
  }
  static F32x16 rows(const I8Sum& sum, int32_t) {
    return {_mm256_cvtepi32_ps(sum.half[0]), _mm256_cvtepi32_ps(sum.half[1])};
  }

 private:
  static __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static __m256i broadcast4(const int8_t* q) {
    int32_t four;
    __builtin_memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
  }
};

}  // namespace
}  // namespace bitnet::kernels::avx2
