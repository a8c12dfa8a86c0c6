#pragma once

// Hopper's asynchronous integer tensor cores (wgmma: sm_90a alone): 64 rows of weights in the registers of
// four warps, times kRows rows of int8 activations in shared memory (activation_image.cuh).

#include <cstdint>

namespace bitnet::cuda {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Until at most kPending groups are under way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// The operands of two steps from two words of codes, of rows g and g + 8: two bits of every byte are a
/// column.
__device__ __forceinline__ void unpack_codes(uint32_t low, uint32_t high, uint32_t (&a)[2][4]) {
  constexpr uint32_t mask = 0x03030303u;
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    a[s][0] = low >> 4 * s & mask;
    a[s][1] = high >> 4 * s & mask;
    a[s][2] = low >> (4 * s + 2) & mask;
    a[s][3] = high >> (4 * s + 2) & mask;
  }
}

/// Operands are made in front of the fence, not moved behind it.
__device__ __forceinline__ void pin(uint32_t (&a)[2][4]) {
  asm volatile(""
               : "+r"(a[0][0]), "+r"(a[0][1]), "+r"(a[0][2]), "+r"(a[0][3]), "+r"(a[1][0]), "+r"(a[1][1]),
                 "+r"(a[1][2]), "+r"(a[1][3])
               :
               : "memory");
}

/// Rows of 128 bytes, swizzled; `address` moves by 32 bytes for each 32 columns.
__device__ __forceinline__ uint64_t descriptor_of(uint32_t address) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kAtomStride = uint64_t{1024 / 16} << 32;
  return kSwizzle128 | kAtomStride | uint64_t{1} << 16 | (address & 0x3ffffu) >> 4;
}

/// Codes 0 ... 3, or int8.
enum class Weights { kUnsigned, kSigned };

#define BITNET_WGMMA_4(d, i) "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3])
#define BITNET_WGMMA_16(d, i) \
  BITNET_WGMMA_4(d, i), BITNET_WGMMA_4(d, i + 4), BITNET_WGMMA_4(d, i + 8), BITNET_WGMMA_4(d, i + 12)
#define BITNET_WGMMA_A(a, b) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
#define BITNET_WGMMA_D16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define BITNET_WGMMA_D32 \
  BITNET_WGMMA_D16       \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define BITNET_WGMMA_D64                                                                                   \
  BITNET_WGMMA_D32                                                                                         \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, " \
  "%52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define BITNET_WGMMA_D80 \
  BITNET_WGMMA_D64       \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"

/// d += a (64 rows x 32 columns) * b (32 columns x 2 kSums rows of activations).
template <Weights kWeights>
__device__ __forceinline__ void wgmma(int (&d)[8], const uint32_t (&a)[4], uint64_t b) {
  if constexpr (kWeights == Weights::kUnsigned) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n16k32.s32.u8.s8 {%0, %1, %2, %3, %4, %5, %6, %7}, "
        "{%8, %9, %10, %11}, %12, 1;"
        : BITNET_WGMMA_4(d, 0), BITNET_WGMMA_4(d, 4)
        : BITNET_WGMMA_A(a, b));
  } else {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n16k32.s32.s8.s8 {%0, %1, %2, %3, %4, %5, %6, %7}, "
        "{%8, %9, %10, %11}, %12, 1;"
        : BITNET_WGMMA_4(d, 0), BITNET_WGMMA_4(d, 4)
        : BITNET_WGMMA_A(a, b));
  }
}
template <Weights kWeights>
__device__ __forceinline__ void wgmma(int (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  if constexpr (kWeights == Weights::kUnsigned) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k32.s32.u8.s8 {" BITNET_WGMMA_D32
                 "}, {%32, %33, %34, %35}, %36, 1;"
                 : BITNET_WGMMA_16(d, 0), BITNET_WGMMA_16(d, 16)
                 : BITNET_WGMMA_A(a, b));
  } else {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8 {" BITNET_WGMMA_D32
                 "}, {%32, %33, %34, %35}, %36, 1;"
                 : BITNET_WGMMA_16(d, 0), BITNET_WGMMA_16(d, 16)
                 : BITNET_WGMMA_A(a, b));
  }
}
template <Weights kWeights>
__device__ __forceinline__ void wgmma(int (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  if constexpr (kWeights == Weights::kUnsigned) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k32.s32.u8.s8 {" BITNET_WGMMA_D64
                 "}, {%64, %65, %66, %67}, %68, 1;"
                 : BITNET_WGMMA_16(d, 0), BITNET_WGMMA_16(d, 16), BITNET_WGMMA_16(d, 32),
                   BITNET_WGMMA_16(d, 48)
                 : BITNET_WGMMA_A(a, b));
  } else {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 {" BITNET_WGMMA_D64
                 "}, {%64, %65, %66, %67}, %68, 1;"
                 : BITNET_WGMMA_16(d, 0), BITNET_WGMMA_16(d, 16), BITNET_WGMMA_16(d, 32),
                   BITNET_WGMMA_16(d, 48)
                 : BITNET_WGMMA_A(a, b));
  }
}

/// Of codes alone.
template <Weights kWeights>
__device__ __forceinline__ void wgmma(int (&d)[80], const uint32_t (&a)[4], uint64_t b) {
  static_assert(kWeights == Weights::kUnsigned);
  asm volatile("wgmma.mma_async.sync.aligned.m64n160k32.s32.u8.s8 {" BITNET_WGMMA_D80
               "}, {%80, %81, %82, %83}, %84, 1;"
               : BITNET_WGMMA_16(d, 0), BITNET_WGMMA_16(d, 16), BITNET_WGMMA_16(d, 32),
                 BITNET_WGMMA_16(d, 48), BITNET_WGMMA_16(d, 64)
               : BITNET_WGMMA_A(a, b));
}

#undef BITNET_WGMMA_4
#undef BITNET_WGMMA_16
#undef BITNET_WGMMA_A
#undef BITNET_WGMMA_D16
#undef BITNET_WGMMA_D32
#undef BITNET_WGMMA_D64
#undef BITNET_WGMMA_D80

#endif

}  // namespace bitnet::cuda
