#pragma once

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::avx2 {
namespace {

// Sixteen lanes in two ymm registers. Semantics: scalar/f32x16.h.
struct F32x16 {
  static constexpr int kDenseRows = 4, kDenseTokens = 1;
  static constexpr int kQueries = 6, kKeyBlocks = 1, kValueChunks = 1;
  struct I8Dots;  // i8_dots.h
  __m256 low, high;

  static F32x16 zero() { return broadcast(0.0f); }
  static F32x16 broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static F32x16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static F32x16 load_f16(const uint16_t* p) {
    return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(p + 8))};
  }
  static F32x16 load_bf16(const uint16_t* p) {
    const auto widen = [](__m128i bits) {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    };
    return {widen(load_128(p)), widen(load_128(p + 8))};
  }
  static F32x16 from_i8(const int8_t* p) {
    const auto widen = [](const int8_t* eight) {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(eight));
      return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    };
    return {widen(p), widen(p + 8)};
  }
  static float f16_to_f32(uint16_t bits) { return _cvtsh_ss(bits); }

  void store(float* p) const {
    _mm256_storeu_ps(p, low);
    _mm256_storeu_ps(p + 8, high);
  }
  void store_f16(uint16_t* p) const {
    constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(low, kNearestEven));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(high, kNearestEven));
  }
  void store_i8(int8_t* p) const {
    // packs interleaves 128-bit halves: 64-bit quarters come out in the order 0 2 1 3.
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }

  static F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static F32x16 add(F32x16 a, F32x16 b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static F32x16 sub(F32x16 a, F32x16 b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  static F32x16 mul(F32x16 a, F32x16 b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static F32x16 div(F32x16 a, F32x16 b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  static F32x16 sqrt(F32x16 a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }
  static F32x16 max(F32x16 a, F32x16 b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  static F32x16 max_magnitude(F32x16 m, F32x16 x) {
    const auto larger = [](__m256 a, __m256 b) {
      const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(b), _mm256_set1_epi32(0x7fffffff));
      return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), magnitude));
    };
    return {larger(m.low, x.low), larger(m.high, x.high)};
  }
  static F32x16 select_less(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
    return {_mm256_blendv_ps(no.low, yes.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
            _mm256_blendv_ps(no.high, yes.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
  }
  static F32x16 add_exponent(F32x16 x, F32x16 n_shifted) {
    const auto scale = [](__m256 a, __m256 n) {
      const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
      return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), exponent));
    };
    return {scale(x.low, n_shifted.low), scale(x.high, n_shifted.high)};
  }

  [[nodiscard]] float reduce_add() const {
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  static __m128i load_128(const uint16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
};

}  // namespace
}  // namespace bitnet::kernels::avx2

#include "kernels/cpu/avx2/i8_dots.h"
