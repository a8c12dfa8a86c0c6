#pragma once

#include "bitnet/core/half.h"

#include <cstdint>

#include <arm_neon.h>

namespace bitnet::kernels::neon {
namespace {

// Sixteen lanes in four q registers. Semantics: scalar/f32x16.h. Baseline ARMv8.0, which has the conversions
// between binary16 and binary32.
struct F32x16 {
  static constexpr int kDenseRows = 4, kDenseTokens = 1;
  static constexpr int kQueries = 6, kKeyBlocks = 1, kValueChunks = 1;
  struct I8Dots;  // i8_dots.h
  float32x4_t v[4];

  static F32x16 zero() { return broadcast(0.0f); }
  static F32x16 broadcast(float value) {
    return generate([&](int) { return vdupq_n_f32(value); });
  }
  static F32x16 load(const float* p) {
    return generate([&](int i) { return vld1q_f32(p + 4 * i); });
  }
  static F32x16 load_f16(const uint16_t* p) {
    return generate([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
  }
  static F32x16 load_bf16(const uint16_t* p) {
    return generate([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); });
  }
  static F32x16 from_i8(const int8_t* p) {
    const int8x16_t bytes = vld1q_s8(p);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
  }
  static float f16_to_f32(uint16_t bits) { return bitnet::f16_to_f32(bits); }

  void store(float* p) const {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, v[i]);
  }
  void store_f16(uint16_t* p) const {
    for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v[i])));
  }
  void store_i8(int8_t* p) const {
    int16x4_t words[4];
    for (int i = 0; i < 4; ++i) words[i] = vqmovn_s32(vcvtq_s32_f32(v[i]));
    vst1_s8(p, vqmovn_s16(vcombine_s16(words[0], words[1])));
    vst1_s8(p + 8, vqmovn_s16(vcombine_s16(words[2], words[3])));
  }

  static F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
    return generate([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
  }
  static F32x16 add(F32x16 a, F32x16 b) {
    return generate([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
  }
  static F32x16 sub(F32x16 a, F32x16 b) {
    return generate([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
  }
  static F32x16 mul(F32x16 a, F32x16 b) {
    return generate([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
  }
  static F32x16 div(F32x16 a, F32x16 b) {
    return generate([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
  }
  static F32x16 sqrt(F32x16 a) {
    return generate([&](int i) { return vsqrtq_f32(a.v[i]); });
  }
  static F32x16 max(F32x16 a, F32x16 b) {  // vmaxq_f32 would make a NaN of either operand the result
    return generate([&](int i) { return vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
  }
  static F32x16 max_magnitude(F32x16 m, F32x16 x) {
    return generate([&](int i) {
      const uint32x4_t magnitude = vandq_u32(vreinterpretq_u32_f32(x.v[i]), vdupq_n_u32(0x7fffffffu));
      return vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(m.v[i]), magnitude));
    });
  }
  static F32x16 select_less(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
    return generate([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), yes.v[i], no.v[i]); });
  }
  static F32x16 add_exponent(F32x16 x, F32x16 n_shifted) {
    return generate([&](int i) {
      const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(n_shifted.v[i]), 23);
      return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(x.v[i]), exponent));
    });
  }

  [[nodiscard]] float reduce_add() const {
    const float32x4_t four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }

 private:
  template <class Function>
  static F32x16 generate(Function function) {
    return {{function(0), function(1), function(2), function(3)}};
  }
};

}  // namespace
}  // namespace bitnet::kernels::neon

#include "kernels/cpu/neon/i8_dots.h"
