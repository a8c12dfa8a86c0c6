#pragma once

// The integers of a head scan, one weight at a time (scan_kernels.h).

#include "kernels/cpu/scalar/f32x16.h"

#include <cstdint>

namespace bitnet::kernels::scalar {
namespace {

struct Scan {
  struct Q6Sum {
    int32_t lane[16];
  };
  struct Q6Half {
    int32_t weight[128];
  };
  static void clear(Q6Sum& sum) { sum = {}; }
  // Where code i lies: quant/block_formats.cpp.
  static Q6Half half(const uint8_t* unit, int h) {
    Q6Half half;
    for (int i = 0; i < 128; ++i) {
      const int quarter = i / 32, l = i % 32;
      const int low = unit[64 * h + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
      const int high = unit[128 + 32 * h + l] >> (2 * quarter) & 3;
      half.weight[i] = static_cast<int8_t>(unit[192 + 8 * h + i / 16]) * (low | high << 4);
    }
    return half;
  }
  static void add(Q6Sum& sum, const Q6Half& half, const int16_t* x) {
    for (int i = 0; i < 128; ++i) {
      const int place = 64 * (i / 64) + 32 * (i % 16 / 8) + 8 * (i % 64 / 16) + i % 8;
      sum.lane[4 * (i / 16 % 4) + i % 8 / 2] += half.weight[i] * x[place];
    }
  }
  static F32x16 lanes(const Q6Sum& sum) {
    F32x16 out;
    for (int l = 0; l < 16; ++l) out.lane[l] = static_cast<float>(sum.lane[l]);
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
};

}  // namespace
}  // namespace bitnet::kernels::scalar
