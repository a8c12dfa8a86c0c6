#pragma once

#include "bitnet/core/memory.h"

#include <cstdint>
#include <cstring>
#include <random>

namespace bitnet::kernels {

[[nodiscard]] constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// [rows, stride] floats in [-1, 1), zero beyond `cols`: rows as the kernels want them.
[[nodiscard]] inline AlignedBuffer random_rows(int64_t rows, int64_t cols, int64_t stride) {
  AlignedBuffer buffer(static_cast<size_t>(rows * stride) * sizeof(float));
  std::mt19937 random(1);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      buffer.as<float>()[row * stride + col] = static_cast<float>(random()) * 0x1p-31f - 1.0f;
    }
  }
  return buffer;
}

[[nodiscard]] inline bool same_bytes(const AlignedBuffer& a, const AlignedBuffer& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace bitnet::kernels
