#pragma once

// What the parts of the persistent decode kernel (decode_step.cu) share: threads, shared memory, reductions.

#include "kernels/cuda/exchange.cuh"
#include "kernels/cuda/weight_ring.cuh"
#include "kernels/cuda_table.h"

#include <cstddef>

namespace bitnet::cuda {

// Of a block: warps for products, warps for attention, one that streams weights. They meet in nothing but the
// vectors that all blocks exchange.
inline constexpr int kStepWarps = 11;
inline constexpr int kWorkers = kStepWarps * kWarp;
inline constexpr int kAttendWarps = 4;
inline constexpr int kAttenders = kAttendWarps * kWarp;
inline constexpr int kStepThreads = kWorkers + kAttenders + kWarp;
inline constexpr int kMostUnits = 12;  ///< pairs of elements of a product's input that a thread takes
inline constexpr int kMostStepLayers = 128;
inline constexpr int kSlotTiles = 66;       ///< 33 KB: then four fit beside a 2B model's rest
inline constexpr int kStepRows = kWorkers;  ///< of a product that a block can have
inline constexpr int kStepHeadDim = 128;    ///< at most
inline constexpr int kPartHeads = 4;        ///< query heads of one key head that are attended together
inline constexpr int kSliceKeys = 32;
inline constexpr int kSliceDims = 8;
static_assert(kPartHeads == kAttendWarps, "a warp scores the keys for one head");
inline constexpr int kMostKeySlots = 4;             ///< slices of keys that are on their way at once
inline constexpr int kAttentionRegion = 34 * 1024;  ///< bytes for keys, and again for values
inline constexpr int kWeightStride = kernels::kAttentionChunk + 4;

/// Vectors of one layer between the blocks.
struct Exchange {
  Pair *qkv, *attn, *middle, *gated, *hidden, *scores;
};

struct StepState {
  RingBarriers ring;
  double squares[kStepWarps];
  uint32_t magnitude[kStepWarps];
  int32_t q_sum[kStepWarps];
  int sums[kStepRows];
  float residual[kStepRows];
  float cos[kStepHeadDim / 2], sin[kStepHeadDim / 2];
  float queries[kPartHeads][kStepHeadDim];
  float part_out[kAttendWarps][kWarp];
  float part_maximum[kAttendWarps][kPartHeads], part_total[kAttendWarps][kPartHeads];
};

__device__ __forceinline__ void sync_workers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kWorkers) : "memory");
}
__device__ __forceinline__ void sync_attenders() {
  asm volatile("bar.sync 2, %0;" ::"n"(kAttenders) : "memory");
}

/// Tiles of one slot's fill, of `tiles` in all: equal fills.
__device__ __forceinline__ int fill_tiles(int tiles) {
  const int fills = (tiles + kSlotTiles - 1) / kSlotTiles;
  return (tiles + fills - 1) / fills;
}

/// [begin, end) of `count` things for this block.
struct Share {
  int begin, end;
  [[nodiscard]] __device__ int count() const { return end - begin; }
};
__device__ __forceinline__ Share share_of(int count) {
  const auto block = static_cast<int64_t>(blockIdx.x), blocks = static_cast<int64_t>(gridDim.x);
  return {static_cast<int>(count * block / blocks), static_cast<int>(count * (block + 1) / blocks)};
}

}  // namespace bitnet::cuda
