#pragma once

// The inner parts of ternary products over tiles of quant/ternary_tiles.h.

#include "kernels/cuda/device.cuh"
#include "kernels/cuda_table.h"

namespace bitnet::cuda {

inline constexpr int kTileRows = 16;
inline constexpr int kTileCols = 128;
/// A warp reads a tile as one uint4 a lane: 512 bytes.
inline constexpr int kTileVectors = kWarp;

/// Codes 0..2 (times a power of 4 up to 64) as unsigned bytes, activations as signed ones.
__device__ __forceinline__ int dot4(uint32_t codes, int q, int sum) {
  int result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(codes), "r"(q), "r"(sum));
  return result;
}

/// The product as the epilogues want it.
__device__ __forceinline__ float product(int32_t sum_of_codes, int32_t q_sum, float row_scale, float scale) {
  return __fmul_rn(static_cast<float>(sum_of_codes - q_sum), __fdiv_rn(row_scale, scale));
}

template <Epilogue kEpilogue>
__device__ __forceinline__ float gated(float gate, float up) {
  return __fmul_rn(kEpilogue == Epilogue::kRelu2 ? relu2(gate) : silu(gate), up);
}

template <Epilogue kEpilogue>
inline constexpr bool kIsPaired = kEpilogue == Epilogue::kRelu2 || kEpilogue == Epilogue::kSilu;

}  // namespace bitnet::cuda
