#pragma once

#include "kernels/cpu/avx512vnni/f32x16.h"

namespace bitnet::kernels::avx512vnni {
namespace {

// vpdpbusd multiplies unsigned by signed bytes: keys become k + 128, which adds 128 times the query's sum;
// digits of weights are unsigned as they are. Semantics: ../attention_i8_kernels.h.
struct F32x16::I8Dots {
  static constexpr int kQueries = 6, kKeyBlocks = 4, kValueChunks = 2;

  using Keys = __m512i;
  using Values = __m512i;
  using Query = __m512i;
  struct Weights {
    __m512i high, low;
  };
  static Keys keys(const int8_t* p) { return _mm512_xor_si512(values(p), _mm512_set1_epi8(-128)); }
  static Values values(const int8_t* p) { return _mm512_loadu_si512(p); }
  static Query query(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Weights weights(const int8_t* high, const int8_t* low) { return {query(high), query(low)}; }

  struct ScoreSum {
    __m512i sum = _mm512_setzero_si512();
    void add(Keys k, Query q) { sum = _mm512_dpbusd_epi32(sum, k, q); }
    [[nodiscard]] F32x16 total(int32_t q_sum) const {
      return {_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(128 * q_sum)))};
    }
  };
  struct ValueSum {
    __m512i high = _mm512_setzero_si512(), low = _mm512_setzero_si512();
    void add(Values values, const Weights& w) {
      high = _mm512_dpbusd_epi32(high, w.high, values);
      low = _mm512_dpbusd_epi32(low, w.low, values);
    }
    [[nodiscard]] F32x16 total() const {
      return {_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 7), low))};
    }
  };
};

}  // namespace
}  // namespace bitnet::kernels::avx512vnni
