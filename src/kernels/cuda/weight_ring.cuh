#pragma once

// A ring of slots in shared memory through which one warp streams a block's weights by bulk copy (sm_90),
// ahead of the other warps as far as the slots reach.

#include "kernels/cuda/device.cuh"

#include <cstdint>

namespace bitnet::cuda {

inline constexpr int kMostSlots = 8;

struct RingBarriers {
  uint64_t full[kMostSlots], empty[kMostSlots];
};

/// One side's position in the ring; both sides go through the same sequence of fills.
struct WeightRing {
  RingBarriers* barriers;
  std::byte* slots;
  int slot_bytes, slot_count;
  int slot = 0;
  uint32_t round = 0;

  [[nodiscard]] __device__ std::byte* data() const { return slots + slot * slot_bytes; }
  __device__ void advance() {
    if (++slot < slot_count) return;
    slot = 0;
    ++round;
  }
};

#if __CUDA_ARCH__ >= 900

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// By one thread; the block synchronizes afterwards.
__device__ __forceinline__ void init_ring(RingBarriers& barriers, int slots, int readers, int writers = 1) {
  for (int i = 0; i < slots; ++i) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&barriers.full[i])), "r"(writers));
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&barriers.empty[i])),
                 "r"(readers));
  }
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void wait_parity(const uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

/// By one thread; the barrier must expect the bytes.
__device__ __forceinline__ void bulk_copy(uint32_t shared, const void* source, int bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared),
      "l"(source), "r"(bytes), "r"(barrier)
      : "memory");
}

/// By the writing thread: fills the next slot, once it is free.
__device__ __forceinline__ void fill_slot(WeightRing& ring, const void* source, int bytes) {
  wait_parity(&ring.barriers->empty[ring.slot], ring.round % 2 ^ 1);
  const uint32_t full = shared_address(&ring.barriers->full[ring.slot]);
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(full), "r"(bytes) : "memory");
  bulk_copy(shared_address(ring.data()), source, bytes, full);
  ring.advance();
}

/// By the readers: waits for the next slot's bytes; and gives it back, one lane of each reading warp.
__device__ __forceinline__ const std::byte* await_slot(const WeightRing& ring) {
  wait_parity(&ring.barriers->full[ring.slot], ring.round % 2);
  return ring.data();
}
__device__ __forceinline__ void release_slot(WeightRing& ring) {
  __syncwarp();
  if (threadIdx.x % kWarp == 0) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(&ring.barriers->empty[ring.slot]))
                 : "memory");
  }
  ring.advance();
}

#endif

}  // namespace bitnet::cuda
