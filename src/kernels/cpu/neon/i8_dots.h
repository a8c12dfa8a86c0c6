#pragma once

#include "kernels/cpu/neon/f32x16.h"

namespace bitnet::kernels::neon {
namespace {

// Four q registers of 4 lanes. With sdot each lane adds its four products at once; baseline NEON adds them in
// pairs, two int32 a lane, through int16 products of at most 127 * 127. Semantics: ../attention_i8_kernels.h.
struct F32x16::I8Dots {
  static constexpr int kQueries = 2, kKeyBlocks = 1, kValueChunks = 1;

  struct Values {
    int8x16_t v[4];
  };
  using Keys = Values;
  using Query = int8x16_t;
  struct Weights {
    int8x16_t high, low;
  };
  static Values values(const int8_t* p) {
    return {{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}};
  }
  static Keys keys(const int8_t* p) { return values(p); }
  static Query query(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static Weights weights(const int8_t* high, const int8_t* low) { return {query(high), query(low)}; }

  struct Sum {
#if defined(__ARM_FEATURE_DOTPROD)
    int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    void add(const Values& v, int8x16_t x) {
      for (int i = 0; i < 4; ++i) sum[i] = vdotq_s32(sum[i], v.v[i], x);
    }
    [[nodiscard]] int32x4_t lanes(int i) const {
      return sum[i];
    }
#else
    int32x4_t low[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    int32x4_t high[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    void add(const Values& v, int8x16_t x) {
      for (int i = 0; i < 4; ++i) {
        low[i] = vpadalq_s16(low[i], vmull_s8(vget_low_s8(v.v[i]), vget_low_s8(x)));
        high[i] = vpadalq_s16(high[i], vmull_s8(vget_high_s8(v.v[i]), vget_high_s8(x)));
      }
    }
    [[nodiscard]] int32x4_t lanes(int i) const {
      return vpaddq_s32(low[i], high[i]);
    }
#endif
  };
  struct ScoreSum : Sum {
    [[nodiscard]] F32x16 total(int32_t) const {
      return generate([&](int i) { return vcvtq_f32_s32(lanes(i)); });
    }
  };
  struct ValueSum {
    Sum high, low;
    void add(const Values& v, const Weights& w) {
      high.add(v, w.high);
      low.add(v, w.low);
    }
    [[nodiscard]] F32x16 total() const {
      return generate(
          [&](int i) { return vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high.lanes(i), 7), low.lanes(i))); });
    }
  };
};

}  // namespace
}  // namespace bitnet::kernels::neon
