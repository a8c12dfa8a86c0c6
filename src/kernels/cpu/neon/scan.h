#pragma once

// The integers of a head scan on NEON (scan_kernels.h). Products sums four int8 products a lane:
// WideningProducts (baseline) or DotProducts (neon_dotprod_table.cpp).

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/neon/f32x16.h"

#include <cstdint>

#include <arm_neon.h>

namespace bitnet::kernels::neon {
namespace {

// Two products of int8 fit an int16, also 2 * 127 * 127 and -2 * 127 * 127.
struct WideningProducts {
  static int32x4_t add(int32x4_t sum, int8x16_t a, int8x16_t b) {
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
  }
};

template <class Products>
struct Scan {
  struct Q6Unit {
    int8x16_t four[4][4];  // columns, of 4 rows each
  };
  static Q6Unit load_q6(const uint8_t* unit) {
    Q6Unit codes;
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      uint8x16_t last = vdupq_n_u8(0);
      BITNET_UNROLL for (int u = 2; u >= 0; --u) {
        const uint8x16_t bytes = vld1q_u8(unit + 64 * u + 16 * i);
        codes.four[u][i] = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(63)));
        last = vorrq_u8(vshlq_n_u8(last, 2), vshrq_n_u8(bytes, 6));
      }
      codes.four[3][i] = vreinterpretq_s8_u8(last);
    }
    return codes;
  }
  static F32x16 products(const Q6Unit& codes, const int8_t* hi, const int8_t* lo, int32_t offset) {
    F32x16 out;
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      int32x4_t high = vdupq_n_s32(0), low = vdupq_n_s32(offset);
      BITNET_UNROLL for (int u = 0; u < 4; ++u) {
        high = Products::add(high, codes.four[u][i], broadcast4(hi + 4 * u));
        low = Products::add(low, codes.four[u][i], broadcast4(lo + 4 * u));
      }
      out.v[i] = vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high, 7), low));
    }
    return out;
  }

  struct I8Sum {
    int32x4_t quarter[4];
  };
  struct I8Block {
    int8x16_t quarter[4];
  };
  static void clear(I8Sum& sum) { BITNET_UNROLL for (int i = 0; i < 4; ++i) sum.quarter[i] = vdupq_n_s32(0); }
  static I8Block load_i8(const uint8_t* p) {
    I8Block block;
    BITNET_UNROLL for (int i = 0; i < 4; ++i) block.quarter[i] =
        vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + 16 * i), vdupq_n_u8(0x80)));
    return block;
  }
  static void add(I8Sum& sum, const I8Block& block, const int8_t* four) {
    const int8x16_t q = broadcast4(four);
    BITNET_UNROLL for (int i = 0; i < 4; ++i) sum.quarter[i] =
        Products::add(sum.quarter[i], block.quarter[i], q);
  }
  static void merge(I8Sum& sum, const I8Sum& other) {
    BITNET_UNROLL for (int i = 0; i < 4; ++i) sum.quarter[i] = vaddq_s32(sum.quarter[i], other.quarter[i]);
  }
  static F32x16 rows(const I8Sum& sum, int32_t) {
    F32x16 out;
    BITNET_UNROLL for (int i = 0; i < 4; ++i) out.v[i] = vcvtq_f32_s32(sum.quarter[i]);
    return out;
  }

 private:
  static int8x16_t broadcast4(const int8_t* q) {
    int32_t four;
    __builtin_memcpy(&four, q, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
};

}  // namespace
}  // namespace bitnet::kernels::neon
