#pragma once

// The integers of a head scan with vpmaddwd and vpmaddubsw (scan_kernels.h).

#include "kernels/cpu/avx2/f32x16.h"
#include "kernels/cpu/float_kernels.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx2 {
namespace {

struct Scan {
  // Products scale * code <= 128 * 63 as int16: the high half of (256 scale) (256 code). Unpacking bytes to
  // words leaves the first eight weights of each sub-block in one register and the other eight in the next,
  // as the lanes of kernel_table.h want it.
  struct Q6Half {
    __m256i weights[8];
  };
  struct Q6Sum {
    __m256i part[2];
  };
  static void clear(Q6Sum& sum) { sum.part[0] = sum.part[1] = _mm256_setzero_si256(); }
  static Q6Half half(const uint8_t* unit, int h) {
    __m256i codes[4];
    unpack_half(unit + 64 * h, unit + 128 + 32 * h, codes);
    // A byte below each scale: the shuffle's index 0x80 gives zero.
    const __m256i scales =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(unit + 192)));
    const __m256i lane = _mm256_inserti128_si256(_mm256_set1_epi16(0x0080), _mm_set1_epi16(0x0180), 1);
    Q6Half half;
    BITNET_UNROLL for (int c = 0; c < 4; ++c) {
      const auto first = static_cast<int16_t>((8 * h + 2 * c) << 8);
      const __m256i index = _mm256_add_epi16(lane, _mm256_set1_epi16(first));
      const __m256i scale = _mm256_shuffle_epi8(scales, index), zero = _mm256_setzero_si256();
      half.weights[2 * c] = _mm256_mulhi_epi16(_mm256_unpacklo_epi8(zero, codes[c]), scale);
      half.weights[2 * c + 1] = _mm256_mulhi_epi16(_mm256_unpackhi_epi8(zero, codes[c]), scale);
    }
    return half;
  }
  static void add(Q6Sum& sum, const Q6Half& half, const int16_t* x) {
    BITNET_UNROLL for (int c = 0; c < 4; ++c) {
      const int16_t* first = x + 64 * (c / 2) + 16 * (c % 2);
      __m256i& part = sum.part[c % 2];
      part = _mm256_add_epi32(part, _mm256_madd_epi16(half.weights[2 * c], load(first)));
      part = _mm256_add_epi32(part, _mm256_madd_epi16(half.weights[2 * c + 1], load(first + 32)));
    }
  }
  static F32x16 lanes(const Q6Sum& sum) {
    return {_mm256_cvtepi32_ps(sum.part[0]), _mm256_cvtepi32_ps(sum.part[1])};
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
    int32_t activations;
    __builtin_memcpy(&activations, four, sizeof activations);
    const __m256i q = _mm256_set1_epi32(activations);
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
  // Half a block: 64 bytes of low nibbles and 32 bytes of high pairs. Shifts of 16-bit lanes let bits of
  // neighbouring bytes in, which the masks take out.
  static void unpack_half(const uint8_t* low, const uint8_t* high, __m256i* codes) {
    const __m256i nibble = _mm256_set1_epi8(15), pair = _mm256_set1_epi8(48);
    const __m256i first = load(low), second = load(low + 32), pairs = load(high);
    const auto join = [&](__m256i a, __m256i b) {
      return _mm256_or_si256(_mm256_and_si256(a, nibble), _mm256_and_si256(b, pair));
    };
    codes[0] = join(first, _mm256_slli_epi16(pairs, 4));
    codes[1] = join(second, _mm256_slli_epi16(pairs, 2));
    codes[2] = join(_mm256_srli_epi16(first, 4), pairs);
    codes[3] = join(_mm256_srli_epi16(second, 4), _mm256_srli_epi16(pairs, 2));
  }
};

}  // namespace
}  // namespace bitnet::kernels::avx2
