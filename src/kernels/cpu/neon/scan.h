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
  // Products scale * code <= 128 * 63 as int16, eight a register: of sub-block j, 2 j and 2 j + 1.
  struct Q6Half {
    int16x8_t weights[16];
  };
  // Of lanes 4 m ... 4 m + 3: products of the even and of the odd fours of a register, to be added in pairs.
  struct Q6Sum {
    int32x4_t even[4], odd[4];
  };
  static void clear(Q6Sum& sum) {
    BITNET_UNROLL for (int m = 0; m < 4; ++m) sum.even[m] = sum.odd[m] = vdupq_n_s32(0);
  }
  static Q6Half half(const uint8_t* unit, int h) {
    uint8x16_t codes[8];
    unpack_half(unit + 64 * h, unit + 128 + 32 * h, codes);
    Q6Half half;
    BITNET_UNROLL for (int j = 0; j < 8; ++j) {
      const auto scale = static_cast<int16_t>(static_cast<int8_t>(unit[192 + 8 * h + j]));
      const auto scaled = [scale](uint8x8_t eight) {
        return vmulq_n_s16(vreinterpretq_s16_u16(vmovl_u8(eight)), scale);
      };
      half.weights[2 * j] = scaled(vget_low_u8(codes[j]));
      half.weights[2 * j + 1] = scaled(vget_high_u8(codes[j]));
    }
    return half;
  }
  static void add(Q6Sum& sum, const Q6Half& half, const int16_t* x) {
    BITNET_UNROLL for (int i = 0; i < 16; ++i) {
      const int j = i / 2, m = j % 4;
      const int16x8_t eight = vld1q_s16(x + 64 * (j / 4) + 32 * (i % 2) + 8 * m);
      sum.even[m] = vmlal_s16(sum.even[m], vget_low_s16(half.weights[i]), vget_low_s16(eight));
      sum.odd[m] = vmlal_high_s16(sum.odd[m], half.weights[i], eight);
    }
  }
  static F32x16 lanes(const Q6Sum& sum) {
    F32x16 out;
    BITNET_UNROLL for (int m = 0; m < 4; ++m) out.v[m] = vcvtq_f32_s32(vpaddq_s32(sum.even[m], sum.odd[m]));
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
    int32_t activations;
    __builtin_memcpy(&activations, four, sizeof activations);
    const int8x16_t q = vreinterpretq_s8_s32(vdupq_n_s32(activations));
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
  // Half a block: 64 bytes of low nibbles and 32 bytes of high pairs give eight registers of 16 codes.
  static void unpack_half(const uint8_t* low, const uint8_t* high, uint8x16_t* codes) {
    const uint8x16_t nibble = vdupq_n_u8(15), pair = vdupq_n_u8(48);
    BITNET_UNROLL for (int i = 0; i < 2; ++i) {
      const uint8x16_t first = vld1q_u8(low + 16 * i), second = vld1q_u8(low + 32 + 16 * i);
      const uint8x16_t pairs = vld1q_u8(high + 16 * i);
      const auto join = [&](uint8x16_t a, uint8x16_t b) { return vorrq_u8(a, vandq_u8(b, pair)); };
      codes[i] = join(vandq_u8(first, nibble), vshlq_n_u8(pairs, 4));
      codes[2 + i] = join(vandq_u8(second, nibble), vshlq_n_u8(pairs, 2));
      codes[4 + i] = join(vshrq_n_u8(first, 4), pairs);
      codes[6 + i] = join(vshrq_n_u8(second, 4), vshrq_n_u8(pairs, 2));
    }
  }
};

}  // namespace
}  // namespace bitnet::kernels::neon
