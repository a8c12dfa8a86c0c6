#pragma once

// Device functions that several kernels share.

#include <cstdint>

namespace bitnet::cuda {

inline constexpr int kWarp = 32;

/// Lets the next kernel's blocks start as room appears, and waits until the kernel in front has ended and its
/// writes are visible. Both do nothing before sm_90 and in a kernel that was launched without overlap.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Weights are read once: past L1.
__device__ __forceinline__ uint4 load_stream(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

/// Asks for the 128 bytes around p, on their way from memory to the L2 cache.
__device__ __forceinline__ void prefetch(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  return value;
}

/// e^x of docs/NUMERICS.md, bit for bit.
__device__ __forceinline__ float exp_exact(float x) {
  constexpr float kMagic = 12582912.0f;
  const float shifted = __fadd_rn(__fmul_rn(x, 0x1.715476p+0f), kMagic);
  const float n = __fadd_rn(shifted, -kMagic);
  float r = fmaf(n, -0x1.62e4p-1f, x);
  r = fmaf(n, -0x1.7f7d1cp-20f, r);
  float p = 0x1.6a2434p-10f;
  p = fmaf(p, r, 0x1.1239e2p-7f);
  p = fmaf(p, r, 0x1.5558f2p-5f);
  p = fmaf(p, r, 0x1.555492p-3f);
  p = fmaf(p, r, 0x1.fffffcp-2f);
  const float e = __fadd_rn(fmaf(__fmul_rn(r, r), p, r), 1.0f);
  // n stands in the low bits of `shifted`: it is added to the exponent.
  const float scaled = __uint_as_float(__float_as_uint(e) + (__float_as_uint(shifted) << 23));
  const float finite = x < -0x1.5d589ep+6f ? 0.0f : scaled;
  return x < 0x1.62e430p+6f ? finite : __fmul_rn(x, 0x1.fffffep+127f);
}

__device__ __forceinline__ float relu2(float gate) {
  const float g = 0.0f > gate ? 0.0f : gate;  // keeps a NaN
  return __fmul_rn(g, g);
}
__device__ __forceinline__ float silu(float gate) {
  return __fdiv_rn(gate, __fadd_rn(1.0f, exp_exact(-gate)));
}

}  // namespace bitnet::cuda
