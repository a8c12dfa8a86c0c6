#pragma once

// The integers of a head scan with vpdpbusd and vpdpwssd (scan_kernels.h).

#include "kernels/cpu/avx512vnni/f32x16.h"
#include "kernels/cpu/float_kernels.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx512vnni {
namespace {

struct Scan {
  // Products scale * code <= 128 * 63 as int16: the high half of (256 scale) (256 code). Unpacking bytes to
  // words leaves the first eight weights of each sub-block in one register and the other eight in the next,
  // as the lanes of kernel_table.h want it.
  struct Q6Half {
    __m512i weights[4];
  };
  struct Q6Sum {
    __m512i chain[2];
  };
  static void clear(Q6Sum& sum) { sum.chain[0] = sum.chain[1] = _mm512_setzero_si512(); }
  static Q6Half half(const uint8_t* unit, int h) {
    __m512i codes[2];
    unpack_half(unit + 64 * h, unit + 128 + 32 * h, codes);
    // A byte below each scale: the shuffle's index 0x80 gives zero.
    const __m512i scales =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(unit + 192)));
    const __m512i lane =
        _mm512_inserti64x4(_mm512_castsi256_si512(pairs_of(0x0080, 0x0180)), pairs_of(0x0280, 0x0380), 1);
    Q6Half half;
    BITNET_UNROLL for (int c = 0; c < 2; ++c) {
      const auto first = static_cast<int16_t>((8 * h + 4 * c) << 8);
      const __m512i index = _mm512_add_epi16(lane, _mm512_set1_epi16(first));
      const __m512i scale = _mm512_shuffle_epi8(scales, index), zero = _mm512_setzero_si512();
      half.weights[2 * c] = _mm512_mulhi_epi16(_mm512_unpacklo_epi8(zero, codes[c]), scale);
      half.weights[2 * c + 1] = _mm512_mulhi_epi16(_mm512_unpackhi_epi8(zero, codes[c]), scale);
    }
    return half;
  }
  static void add(Q6Sum& sum, const Q6Half& half, const int16_t* x) {
    BITNET_UNROLL for (int i = 0; i < 4; ++i) sum.chain[i % 2] =
        _mm512_dpwssd_epi32(sum.chain[i % 2], half.weights[i], _mm512_loadu_si512(x + 32 * i));
  }
  static F32x16 lanes(const Q6Sum& sum) {
    return {_mm512_cvtepi32_ps(_mm512_add_epi32(sum.chain[0], sum.chain[1]))};
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
  static __m256i pairs_of(int low, int high) {
    return _mm256_inserti128_si256(_mm256_set1_epi16(static_cast<int16_t>(low)),
                                   _mm_set1_epi16(static_cast<int16_t>(high)), 1);
  }
  // Half a block: 64 bytes of low nibbles and 32 bytes of high pairs give codes of two registers. Shifts of
  // 16-bit lanes let bits of neighbouring bytes in, which the masks take out.
  static void unpack_half(const uint8_t* low, const uint8_t* high, __m512i* codes) {
    const __m512i nibbles = _mm512_loadu_si512(low);
    const __m512i pairs = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)));
    const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
    const __m512i left = _mm512_sub_epi16(_mm512_set1_epi16(4), right);
    codes[0] = join(nibbles, _mm512_sllv_epi16(pairs, left));
    codes[1] = join(_mm512_srli_epi16(nibbles, 4), _mm512_srlv_epi16(pairs, right));
  }
  static __m512i join(__m512i nibble, __m512i pair) {
    constexpr int kSelect = 0xca;  // a ? b : c, bit by bit
    const __m512i bits = _mm512_ternarylogic_epi32(_mm512_set1_epi8(15), nibble, pair, kSelect);
    return _mm512_and_si512(bits, _mm512_set1_epi8(63));
  }
};

}  // namespace
}  // namespace bitnet::kernels::avx512vnni
