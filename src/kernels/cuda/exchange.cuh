#pragma once

// Vectors that blocks of one kernel hand to each other without a barrier. An element is a pair of its value
// and an epoch in one 64-bit word, which memory never tears: who finds the epoch he waits for has the value.
// Nothing else is inferred from it, so relaxed accesses do.

#include <cstdint>

namespace bitnet::cuda {

struct alignas(8) Pair {
  float value;
  uint32_t epoch;
};

__device__ __forceinline__ void publish(Pair* place, float value, uint32_t epoch) {
  const uint64_t word = uint64_t{epoch} << 32 | __float_as_uint(value);
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(place), "l"(word) : "memory");
}

__device__ __forceinline__ Pair load_pair(const Pair* place) {
  uint64_t word;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(place) : "memory");
  return {__uint_as_float(static_cast<uint32_t>(word)), static_cast<uint32_t>(word >> 32)};
}

struct TwoPairs {
  Pair first, second;
  [[nodiscard]] __device__ bool are(uint32_t epoch) const {
    return first.epoch == epoch && second.epoch == epoch;
  }
};
/// Each of the two words is read whole; they need not belong together.
__device__ __forceinline__ TwoPairs load_two(const Pair* place) {
  uint64_t a, b;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(place) : "memory");
  return {{__uint_as_float(static_cast<uint32_t>(a)), static_cast<uint32_t>(a >> 32)},
          {__uint_as_float(static_cast<uint32_t>(b)), static_cast<uint32_t>(b >> 32)}};
}

/// Tries until ask() says that all that its lane waits for is there; all lanes of a warp. ask() loads what is
/// still missing. Waiting blocks must not crowd the memory that the awaited ones write to: at first only one
/// lane asks, wait_one(). What it waited for has come, the rest will not be long: then all ask again
/// (kAllAgain, for whole vectors), or still one (for single numbers).
template <bool kAllAgain, class Ask, class WaitOne>
__device__ __forceinline__ void await_all(Ask&& ask, WaitOne&& wait_one) {
  for (bool first = true;; first = !kAllAgain) {
    const unsigned missing = __ballot_sync(0xffffffffu, !ask());
    if (missing == 0) return;
    if (!first) {
      __nanosleep(40);
    } else if (static_cast<int>(threadIdx.x % 32) == __ffs(static_cast<int>(missing)) - 1) {
      wait_one();
    }
    __syncwarp();
  }
}

__device__ __forceinline__ void await_pair(const Pair* place, uint32_t epoch) {
  while (load_pair(place).epoch != epoch) __nanosleep(20);
}

/// Waits for the pairs place(i), i < kCount < 32, of which `missing` has a bit, and calls take(i, value) for
/// each as it comes; all lanes of a warp.
template <int kCount, class Place, class Take>
__device__ __forceinline__ void await_pairs(unsigned missing, uint32_t epoch, Place&& place, Take&& take) {
  const auto ask = [&] {
    Pair pairs[kCount] = {};  // what no path sets would be live through all loops around
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (missing >> i & 1u) pairs[i] = load_pair(place(i));
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if ((missing >> i & 1u) == 0 || pairs[i].epoch != epoch) continue;
      take(i, pairs[i].value);
      missing &= ~(1u << i);
    }
    return missing == 0;
  };
  await_all<false>(ask, [&] { await_pair(place(__ffs(static_cast<int>(missing)) - 1), epoch); });
}

}  // namespace bitnet::cuda
