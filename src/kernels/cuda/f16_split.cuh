#pragma once

// f32 operands for the f16 tensor cores: the sum of two f16, of which the second holds what the first rounds
// off.

#include <cstdint>

#include <cuda_fp16.h>

namespace bitnet::cuda {

/// (a, b) as the sum of two pairs of f16.
__device__ __forceinline__ void split_pair(float a, float b, uint32_t& high, uint32_t& low) {
  const __half2 h = __floats2half2_rn(a, b);
  const float2 back = __half22float2(h);
  const __half2 l = __floats2half2_rn(a - back.x, b - back.y);
  high = *reinterpret_cast<const uint32_t*>(&h);
  low = *reinterpret_cast<const uint32_t*>(&l);
}

}  // namespace bitnet::cuda
