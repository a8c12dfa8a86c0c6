#pragma once

// Elements of the KV cache.

#include "bitnet/core/dtype.h"
#include "kernels/cuda/device.cuh"

#include <cuda_fp16.h>

namespace bitnet::cuda {

__device__ __forceinline__ float to_float(float value) {
  return value;
}
__device__ __forceinline__ float to_float(__half value) {
  return __half2float(value);
}
template <class T>
__device__ __forceinline__ T from_float(float value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return __float2half_rn(value);
  }
}

/// (a, b) turned by the angle, as kernel_table.h's rope.
struct Rotated {
  float a, b;
};
__device__ __forceinline__ Rotated rotate(float a, float b, float cos, float sin) {
  return {fmaf(-b, sin, __fmul_rn(a, cos)), fmaf(a, sin, __fmul_rn(b, cos))};
}

template <class T>
struct KvType {
  using Element = T;
};
template <class Body>
void for_kv_type(DType dtype, Body&& body) {
  if (dtype == DType::kF16) {
    body(KvType<__half>{});
  } else {
    body(KvType<float>{});
  }
}

}  // namespace bitnet::cuda
