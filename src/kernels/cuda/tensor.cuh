#pragma once

// One element of a tensor to and from f32, by a dtype that is the same for a whole launch.

#include "kernels/cuda_tensor_table.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace bitnet::cuda {

__device__ __forceinline__ float load_value(DType dtype, const void* data, int64_t index) {
  switch (dtype) {
    case DType::kF16:
      return __half2float(static_cast<const __half*>(data)[index]);
    case DType::kBF16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
    case DType::kBool:
      return static_cast<const uint8_t*>(data)[index] != 0 ? 1.0f : 0.0f;
    default:
      return static_cast<const float*>(data)[index];
  }
}

__device__ __forceinline__ void store_value(DType dtype, void* data, int64_t index, float value) {
  switch (dtype) {
    case DType::kF16:
      static_cast<__half*>(data)[index] = __float2half_rn(value);
      break;
    case DType::kBF16:
      static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
      break;
    case DType::kBool:
      static_cast<uint8_t*>(data)[index] = value != 0.0f;
      break;
    default:
      static_cast<float*>(data)[index] = value;
  }
}

/// Offset of element `index` in row-major order of a shape.
__device__ __forceinline__ int64_t offset_of(int64_t index, int ndim, const Axes& shape,
                                             const Axes& strides) {
  int64_t offset = 0;
  for (int axis = ndim - 1; axis >= 0; --axis) {
    const int64_t size = shape[axis];
    const int64_t rest = index / size;
    offset += (index - rest * size) * strides[axis];
    index = rest;
  }
  return offset;
}

void element(const ElementArgs& args, Stream stream);
void reduce(const ReduceArgs& args, Stream stream);
void matmul(const MatmulArgs& args, Stream stream);
void* allocate_ordered(size_t bytes, Stream stream);
void release_ordered(void* pointer, Stream stream) noexcept;

}  // namespace bitnet::cuda
