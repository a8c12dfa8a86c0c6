#pragma once

// The integers of a head scan, one weight at a time (scan_kernels.h).

#include "kernels/cpu/scalar/f32x16.h"

#include <cstdint>

namespace bitnet::kernels::scalar {
namespace {

struct Scan {
  using I4Block = const uint8_t*;
  static I4Block load_i4(const uint8_t* block) { return block; }
  static F32x16 products(I4Block block, const int8_t* hi, const int8_t* lo, int32_t offset) {
    F32x16 out;
    for (int r = 0; r < 16; ++r) {
      int32_t sum = offset;
      for (int k = 0; k < 32; ++k) {
        const int byte = block[64 * (k / 8) + 4 * r + k % 4];
        sum += (k % 8 < 4 ? byte & 15 : byte >> 4) * (128 * hi[k] + lo[k]);
      }
      out.lane[r] = static_cast<float>(sum);
    }
    return out;
  }
};

}  // namespace
}  // namespace bitnet::kernels::scalar
