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
inline constexpr int kSlotTiles = 70;       ///< 35 KB: then four fit beside a 2B model's rest
inline constexpr int kStepRows = kWorkers;  ///< of a product that a block can have
inline constexpr int kStepHeadDim = 128;    ///< at most
inline constexpr int kPartHeads = 4;        ///< query heads of one key head that are attended together
inline constexpr int kSliceKeys = 32;
inline constexpr int kSliceDims = 32;  ///< at most four slices
static_assert(kPartHeads == kAttendWarps, "a warp scores the keys for one head");
inline constexpr int kMostKeySlots = 6;            ///< slices of keys that a block scores together
inline constexpr int kAttentionBytes = 68 * 1024;  ///< for keys, weights and values
/// A part's sums of a chunk: elements, and of each head maximum and total.
__host__ __device__ constexpr int64_t step_chunk_pairs(int64_t head_dim) {
  return kPartHeads * (head_dim + 2);
}

/// Vectors of one layer between the blocks.
struct Exchange {
  Pair *qkv, *attn, *middle, *gated, *hidden, *scores, *sums;
};

/// A block's groups [begin, end) of 16 rows of a matrix, each k_tiles tiles.
struct Share {
  int begin, end, k_tiles;
  int fill;  ///< groups of a slot's fill: equal fills

  [[nodiscard]] __device__ int count() const { return end - begin; }
};
__device__ __forceinline__ Share share_of(int64_t groups, int k_tiles) {
  const int64_t block = blockIdx.x, blocks = gridDim.x;
  Share share{static_cast<int>(groups * block / blocks), static_cast<int>(groups * (block + 1) / blocks),
              k_tiles, 1};
  const int most = kSlotTiles / k_tiles, fills = (share.count() + most - 1) / most;
  if (fills > 0) share.fill = (share.count() + fills - 1) / fills;
  return share;
}

/// What attention over an i8 cache has of its own: rows as four elements a word, and their scales.
struct I8State {
  alignas(16) uint32_t queries[kPartHeads][kStepHeadDim / 4];
  alignas(16) uint32_t new_key[kStepHeadDim / 4];
  float query_scales[kPartHeads], new_key_scale;
  float part_factor[kPartHeads];  ///< what a unit of a sum over values is worth
};

struct StepState {
  RingBarriers ring;
  Share shares[4];  ///< of a layer's matrices
  double squares[kStepWarps];
  uint32_t magnitude[kStepWarps];
  int32_t q_sum[kStepWarps];
  int sums[kStepRows];
  float residual[kStepRows];
  float cos[kStepHeadDim / 2], sin[kStepHeadDim / 2];
  alignas(16) float queries[kPartHeads][kStepHeadDim];
  alignas(16) float new_key[kStepHeadDim];  ///< as the cache has it; of an i8 cache before rounding
  float part_total[kPartHeads];
  I8State i8;
};

/// The value, computed here: neither later, where it is used, nor earlier, to be kept in registers until
/// then.
__device__ __forceinline__ float now(float value) {
  asm volatile("" : "+f"(value));
  return value;
}
__device__ __forceinline__ int now(int value) {
  asm volatile("" : "+r"(value));
  return value;
}
__device__ __forceinline__ Pair* now(Pair* value) {
  asm volatile("" : "+l"(value));
  return value;
}

__device__ __forceinline__ void sync_workers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kWorkers) : "memory");
}
__device__ __forceinline__ void sync_attenders() {
  asm volatile("bar.sync 2, %0;" ::"n"(kAttenders) : "memory");
}

}  // namespace bitnet::cuda
