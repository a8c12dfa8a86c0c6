#pragma once

// The integers of a head scan on NEON (scan_kernels.h). Products sums four int8 products a lane:
// WideningProducts (baseline) or DotProducts (neon_dotprod_table.cpp).

#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/neon/f32x16.h"

#include <cstdint>

#include <arm_neon.h>

namespace bitnet::kernels::neon {
namespace {

// Two products of codes in [0, 15] and int8 fit an int16.
struct WideningProducts {
  static int32x4_t add(int32x4_t sum, int8x16_t a, int8x16_t b) {
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
  }
};

template <class Products>
struct Scan {
  struct I4Block {
    int8x16_t four[8][4];  // columns, of 4 rows each
  };
  static I4Block load_i4(const uint8_t* block) {
    I4Block codes;
    BITNET_UNROLL for (int i = 0; i < 4; ++i) {
      BITNET_UNROLL for (int r = 0; r < 4; ++r) {
        const uint8x16_t bytes = vld1q_u8(block + 64 * i + 16 * r);
        codes.four[2 * i][r] = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
        codes.four[2 * i + 1][r] = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
      }
    }
    return codes;
  }
  static F32x16 products(const I4Block& codes, const int8_t* hi, const int8_t* lo, int32_t offset) {
    F32x16 out;
    BITNET_UNROLL for (int r = 0; r < 4; ++r) {
      int32x4_t high = vdupq_n_s32(0), low = vdupq_n_s32(offset);
      BITNET_UNROLL for (int i = 0; i < 8; ++i) {
        high = Products::add(high, codes.four[i][r], broadcast4(hi + 4 * i));
        low = Products::add(low, codes.four[i][r], broadcast4(lo + 4 * i));
      }
      out.v[r] = vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high, 7), low));
    }
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
