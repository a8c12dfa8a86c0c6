#pragma once

#include "kernels/cpu/avx2/f32x16.h"

namespace bitnet::kernels::avx2 {
namespace {

// vpmaddubsw multiplies unsigned by signed bytes and adds pairs in int16: |k| * (q with k's sign) and digits
// up to 127 give at most 2 * 127 * 127 = 32258. Semantics: ../attention_i8_kernels.h.
struct F32x16::I8Dots {
  static constexpr int kQueries = 4, kKeyBlocks = 1, kValueChunks = 1;
  static_assert(2 * 127 * 127 <= 32767);

  struct Values {
    __m256i low, high;
  };
  struct Keys {
    Values k, magnitude;
  };
  using Query = __m256i;
  struct Weights {
    __m256i high, low;
  };
  static Values values(const int8_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
  }
  static Keys keys(const int8_t* p) {
    const Values k = values(p);
    return {k, {_mm256_abs_epi8(k.low), _mm256_abs_epi8(k.high)}};
  }
  static Query query(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
  }
  static Weights weights(const int8_t* high, const int8_t* low) { return {query(high), query(low)}; }

  // Sums of four products in int32, times `factor`.
  static __m256i dot(__m256i unsigned_bytes, __m256i signed_bytes, int16_t factor) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned_bytes, signed_bytes), _mm256_set1_epi16(factor));
  }
  struct Sum {
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    [[nodiscard]] F32x16 to_float() const { return {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)}; }
  };
  struct ScoreSum : Sum {
    void add(const Keys& key, Query q) {
      low = _mm256_add_epi32(low, dot(key.magnitude.low, _mm256_sign_epi8(q, key.k.low), 1));
      high = _mm256_add_epi32(high, dot(key.magnitude.high, _mm256_sign_epi8(q, key.k.high), 1));
    }
    [[nodiscard]] F32x16 total(int32_t) const { return to_float(); }
  };
  struct ValueSum : Sum {
    void add(const Values& v, const Weights& w) {
      low = _mm256_add_epi32(low, _mm256_add_epi32(dot(w.high, v.low, 128), dot(w.low, v.low, 1)));
      high = _mm256_add_epi32(high, _mm256_add_epi32(dot(w.high, v.high, 128), dot(w.low, v.high, 1)));
    }
    [[nodiscard]] F32x16 total() const { return to_float(); }
  };
};

}  // namespace
}  // namespace bitnet::kernels::avx2
