#pragma once

// What the tensor-core products of several tokens do with their sums.

#include "kernels/cuda/ternary.cuh"

namespace bitnet::cuda {

/// Lane (g, t) holds rows g and g + 8 of a group, for tokens 2t and 2t + 1 of eight.
template <Epilogue kEpilogue>
__device__ __forceinline__ void write_pair(const GemmArgs& args, int64_t group, int64_t token, int low,
                                           int high) {
  if (group >= args.weights.groups || token >= args.tokens) return;
  const int lane_row = threadIdx.x % kWarp / 4;
  const int64_t row = group * kTileRows + lane_row;
  const float scale = args.scale[token];
  const int32_t sum = args.sum[token];
  const float first = product(low, sum, args.weights.row_scale[row], scale);
  const float second = product(high, sum, args.weights.row_scale[row + 8], scale);
  float* y = args.y + token * args.y_stride;
  if constexpr (kIsPaired<kEpilogue>) {
    const int64_t output = group * (kTileRows / 2) + lane_row;
    if (output < args.weights.outputs) y[output] = gated<kEpilogue>(first, second);
  } else if constexpr (kEpilogue == Epilogue::kAdd) {
    if (row < args.weights.outputs) y[row] = __fadd_rn(y[row], first);
    if (row + 8 < args.weights.outputs) y[row + 8] = __fadd_rn(y[row + 8], second);
  } else {
    if (row < args.weights.outputs) y[row] = first;
    if (row + 8 < args.weights.outputs) y[row + 8] = second;
  }
}

}  // namespace bitnet::cuda
