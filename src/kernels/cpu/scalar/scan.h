#pragma once

// The integers of a head scan, one weight at a time (scan_kernels.h).

#include "kernels/cpu/scalar/f32x16.h"

#include <cstdint>

namespace bitnet::kernels::scalar {
namespace {

struct Scan {
  using Q6Unit = const uint8_t*;
  static Q6Unit load_q6(const uint8_t* unit) { return unit; }
  static F32x16 products(Q6Unit unit, const int8_t* hi, const int8_t* lo, int32_t offset) {
    F32x16 out;
    for (int r = 0; r < 16; ++r) {
      int32_t sum = offset;
      for (int k = 0; k < 16; ++k) sum += code(unit + 4 * r + k % 4, k / 4) * (128 * hi[k] + lo[k]);
      out.lane[r] = static_cast<float>(sum);
    }
    return out;
  }

  struct I8Sum {
    int32_t row[16];
  };
  static void clear(I8Sum& sum) { sum = {}; }
  static const uint8_t* load_i8(const uint8_t* p) { return p; }
  static void add(I8Sum& sum, const uint8_t* block, const int8_t* four) {
    for (int r = 0; r < 16; ++r) {
      for (int j = 0; j < 4; ++j) sum.row[r] += (block[4 * r + j] - 128) * four[j];
    }
  }
  static void merge(I8Sum& sum, const I8Sum& other) {
    for (int r = 0; r < 16; ++r) sum.row[r] += other.row[r];
  }
  static F32x16 rows(const I8Sum& sum, int32_t) {
    F32x16 out;
    for (int r = 0; r < 16; ++r) out.lane[r] = static_cast<float>(sum.row[r]);
    return out;
  }

 private:
  static int code(const uint8_t* byte, int four) {
    if (four < 3) return byte[64 * four] & 63;
    return byte[0] >> 6 | byte[64] >> 6 << 2 | byte[128] >> 6 << 4;
  }
};

}  // namespace
}  // namespace bitnet::kernels::scalar
