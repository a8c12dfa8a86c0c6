#pragma once

// Where an int8 head keeps its weights: blocks of 16 rows x 64 columns, a kilobyte each, those of 16 rows one
// after another. Lane 4g + t of a warp finds 16 columns 16t ... of row g in its 16 bytes of the first half of
// a block and those of row g + 8 in the second, which are its registers of two mma.m16n8k32 with the columns
// of both operands permuted alike.

#include "kernels/cuda_table.h"

#include <cstdint>

namespace bitnet::cuda {

inline constexpr int64_t kInt8GroupRows = 16;
inline constexpr int64_t kInt8BlockCols = 64;
inline constexpr int64_t kInt8BlockBytes = kInt8GroupRows * kInt8BlockCols;

__device__ __forceinline__ int64_t int8_offset(int64_t row, int64_t col, int64_t blocks) {
  const int64_t block = row / kInt8GroupRows * blocks + col / kInt8BlockCols;
  const int64_t lane = row % 8 * 4 + col % kInt8BlockCols / 16;
  return block * kInt8BlockBytes + row % kInt8GroupRows / 8 * 512 + lane * 16 + col % 16;
}

}  // namespace bitnet::cuda
