#pragma once

// Clusters of blocks that read each other's shared memory (sm_90); only called where the kernel was launched
// with them.

#include <cstdint>

namespace bitnet::cuda {

__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
#endif
}
/// Says nothing of what was written before, which is waited for otherwise.
__device__ __forceinline__ void cluster_arrive_relaxed() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}

/// Blocks of the cluster along x: 1 without clusters.
__device__ __forceinline__ int cluster_blocks() {
  int blocks = 1;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(blocks));
#endif
  return blocks;
}

/// Where block `rank` has what lies at p in this block's shared memory.
__device__ __forceinline__ uint32_t remote_address(const void* p, int rank) {
  auto address = static_cast<uint32_t>(__cvta_generic_to_shared(p));
#if __CUDA_ARCH__ >= 900
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(address), "r"(rank));
#endif
  return address;
}
__device__ __forceinline__ uint32_t load_remote(uint32_t address) {
  uint32_t value = 0;
#if __CUDA_ARCH__ >= 900
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
#endif
  return value;
}

}  // namespace bitnet::cuda
