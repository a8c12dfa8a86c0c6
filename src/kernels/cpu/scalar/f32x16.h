#pragma once

#include "bitnet/core/half.h"

#include <cstdint>

namespace bitnet::kernels::scalar {
namespace {

// Sixteen lanes in plain C++: the reference for every other F32x16.
struct F32x16 {
  static constexpr int kDenseRows = 4, kDenseTokens = 4;
  float lane[16];

  static F32x16 zero() { return broadcast(0.0f); }
  static F32x16 broadcast(float value) {
    return generate([&](int) { return value; });
  }
  static F32x16 load(const float* p) {
    return generate([&](int i) { return p[i]; });
  }
  static F32x16 load_f16(const uint16_t* p) {
    return generate([&](int i) { return bitnet::f16_to_f32(p[i]); });
  }
  static F32x16 load_bf16(const uint16_t* p) {
    return generate([&](int i) { return bitnet::bf16_to_f32(p[i]); });
  }
  static F32x16 from_i8(const int8_t* p) {
    return generate([&](int i) { return static_cast<float>(p[i]); });
  }
  static float f16_to_f32(uint16_t bits) { return bitnet::f16_to_f32(bits); }

  void store(float* p) const {
    for (int i = 0; i < 16; ++i) p[i] = lane[i];
  }
  void store_f16(uint16_t* p) const {
    for (int i = 0; i < 16; ++i) p[i] = bitnet::f32_to_f16(lane[i]);
  }
  // Lanes hold integers in [-128, 127].
  void store_i8(int8_t* p) const {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(lane[i]);
  }

  static F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
    return generate([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static F32x16 add(F32x16 a, F32x16 b) {
    return generate([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F32x16 sub(F32x16 a, F32x16 b) {
    return generate([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static F32x16 mul(F32x16 a, F32x16 b) {
    return generate([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F32x16 div(F32x16 a, F32x16 b) {
    return generate([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static F32x16 sqrt(F32x16 a) {
    return generate([&](int i) { return __builtin_sqrtf(a.lane[i]); });
  }
  static F32x16 max(F32x16 a, F32x16 b) {
    return generate([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  // max(m, |x|) of the bit patterns, m >= 0: the same as of the values, but NaN is greater than everything.
  static F32x16 max_magnitude(F32x16 m, F32x16 x) {
    return generate([&](int i) {
      const uint32_t bits = __builtin_bit_cast(uint32_t, x.lane[i]) & 0x7fffffffu;
      return bits > __builtin_bit_cast(uint32_t, m.lane[i]) ? __builtin_bit_cast(float, bits) : m.lane[i];
    });
  }
  // a < b ? yes : no
  static F32x16 select_less(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
    return generate([&](int i) { return a.lane[i] < b.lane[i] ? yes.lane[i] : no.lane[i]; });
  }
  // x * 2^n, where n is the integer in the low bits of n_shifted = n + 1.5 * 2^23 (exp in float_kernels.h).
  static F32x16 add_exponent(F32x16 x, F32x16 n_shifted) {
    return generate([&](int i) {
      const uint32_t exponent = __builtin_bit_cast(uint32_t, n_shifted.lane[i]) << 23;
      return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, x.lane[i]) + exponent);
    });
  }

  [[nodiscard]] float reduce_add() const {
    F32x16 sum = *this;
    for (int width = 8; width >= 1; width /= 2) {
      for (int i = 0; i < width; ++i) sum.lane[i] += sum.lane[i + width];
    }
    return sum.lane[0];
  }

 private:
  template <class Function>
  static F32x16 generate(Function function) {
    F32x16 out;
    for (int i = 0; i < 16; ++i) out.lane[i] = function(i);
    return out;
  }
};

}  // namespace
}  // namespace bitnet::kernels::scalar
