#pragma once

// Hopper's asynchronous tensor cores (wgmma: sm_90a alone) on f16 with f32 sums: 64 rows of four warps by 128
// columns. A tile of f16 in shared memory is panels of 64 columns, rows of 128 bytes, swizzled as int8
// activations are (activation_image.cuh); its address is a multiple of 1024.

#include "kernels/cuda/wgmma.cuh"

#include <cstdint>
#include <type_traits>

namespace bitnet::cuda {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// A panel as the second factor with its rows as k: the panels of the columns stand `panel_bytes` apart.
__device__ __forceinline__ uint64_t transposed_descriptor_of(uint32_t address, uint32_t panel_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kAtomStride = uint64_t{1024 / 16} << 32;
  return kSwizzle128 | kAtomStride | uint64_t{panel_bytes / 16} << 16 | (address & 0x3ffffu) >> 4;
}

/// What tensor cores wrote is not read in front of the wait, nor their operands made behind the fence.
template <class T, int kCount>
__device__ __forceinline__ void pin(T (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      asm volatile("" : "+f"(values[i])::"memory");
    } else {
      asm volatile("" : "+r"(values[i])::"memory");
    }
  }
}

#define BITNET_WGMMA_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define BITNET_WGMMA_16(d, i) \
  BITNET_WGMMA_4(d, i), BITNET_WGMMA_4(d, i + 4), BITNET_WGMMA_4(d, i + 8), BITNET_WGMMA_4(d, i + 12)
#define BITNET_WGMMA_64(d) \
  BITNET_WGMMA_16(d, 0), BITNET_WGMMA_16(d, 16), BITNET_WGMMA_16(d, 32), BITNET_WGMMA_16(d, 48)
#define BITNET_WGMMA_D64                                                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, " \
  "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, " \
  "%62, %63"

/// d = a b, or d += a b: a 64 rows x 16 of k, b 128 rows x 16 of k, both in shared memory.
template <bool kAdd>
__device__ __forceinline__ void wgmma_f16(float (&d)[64], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" BITNET_WGMMA_D64
               "}, %64, %65, %66, 1, 1, 0, 0;"
               : BITNET_WGMMA_64(d)
               : "l"(a), "l"(b), "n"(kAdd ? 1 : 0));
}
/// d += a b: a in registers, b 16 rows of k x 128 columns in shared memory.
__device__ __forceinline__ void wgmma_f16_transposed(float (&d)[64], const uint32_t* a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" BITNET_WGMMA_D64
               "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
               : BITNET_WGMMA_64(d)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef BITNET_WGMMA_4
#undef BITNET_WGMMA_16
#undef BITNET_WGMMA_64
#undef BITNET_WGMMA_D64

#endif

}  // namespace bitnet::cuda
