#pragma once

// A product with wgmma: eight warps with a group of 16 rows of weights each, from memory through
// registers, against rows of an activation image, which one thread brings to shared memory by bulk copies.
// Half a column tile is in the tensor cores while the next half's operands are made.

#include "kernels/cuda/activation_image.cuh"
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/int8_tiles.cuh"
#include "kernels/cuda/ternary.cuh"
#include "kernels/cuda/weight_ring.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace bitnet::cuda {

inline constexpr int kWgmmaGroups = 8, kWgmmaThreads = kWgmmaGroups * kWarp;
inline constexpr size_t kSwizzleAlignment = 1024;

/// Of Int8Source: tiles on their way, and its shared memory.
inline constexpr int kInt8Ahead = 2;
inline constexpr size_t kInt8SourceBytes = size_t{kWgmmaGroups} * kInt8Ahead * 2 * kInt8BlockBytes;

/// Rows of an image [first_row, first_row + as many as a stage holds).
struct ImageRows {
  const int8_t* image;
  int64_t first_row, rows;  ///< rows: of the whole image
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// By one thread: a bulk copy to a stage, whose barrier then expects its bytes.
__device__ __forceinline__ void copy_bulk(uint32_t stage, const void* source, int bytes,
                                          const uint64_t* full) {
  const uint32_t barrier = shared_address(full);
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
  bulk_copy(stage, source, bytes, barrier);
}
/// Of its product, of which a block may have several.
__device__ __forceinline__ int product_thread() {
  return static_cast<int>(threadIdx.x) % kWgmmaThreads;
}
/// By a warp.
__device__ __forceinline__ void arrive(const uint64_t* barrier) {
  __syncwarp();
  if (threadIdx.x % kWarp == 0)
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/// A warp's packed ternary weights. Each lane copies what it reads itself to shared memory, kTiles ahead, and
/// waits for the oldest copy alone: registers asked for one after another would share a scoreboard and all be
/// waited for.
template <int kTiles>
struct TernarySource {
  static constexpr int kAhead = kTiles;
  static constexpr Weights kWeights = Weights::kUnsigned;
  const uint4* tiles;  ///< this lane's vector of the first tile
  int last;            ///< tile that exists
  uint4* slots;        ///< this lane's vector of the warp's first slot
  uint4 current;

  /// Of memory for all warps.
  __device__ __forceinline__ void use(void* memory) {
    slots = static_cast<uint4*>(memory) + product_thread() / kWarp * (kTiles * kTileVectors) +
            threadIdx.x % kWarp;
  }
  /// Asks for what comes in place of the half of a tile that `operands` gave last.
  __device__ __forceinline__ void load(int i, int half, int k) {
    if (half == 0) return;
    if (k <= last) copy_async(slots + i * kTileVectors, tiles + k * kTileVectors, true);
    commit_copies();
  }
  /// Of steps 2 half and 2 half + 1: the codes of two quads of columns of rows g and g + 8.
  __device__ __forceinline__ void operands(int i, int half, uint32_t (&a)[2][4]) {
    if (half == 0) {
      wait_copies<kAhead - 1>();
      current = slots[i * kTileVectors];
    }
    unpack_codes(half == 0 ? current.x : current.z, half == 0 ? current.y : current.w, a);
  }
};

/// A warp's group of 16 rows of an int8 head (int8_tiles.cuh), by the same way.
struct Int8Source {
  static constexpr int kAhead = kInt8Ahead;
  static constexpr Weights kWeights = Weights::kSigned;
  static constexpr int kTileVectorCount = static_cast<int>(2 * kInt8BlockBytes / 16);  ///< two blocks
  const uint4* blocks;  ///< this lane's vector of the first
  int last;             ///< tile that exists
  uint4* slots;

  __device__ __forceinline__ void use(void* memory) {
    slots = static_cast<uint4*>(memory) + product_thread() / kWarp * (kAhead * kTileVectorCount) +
            threadIdx.x % kWarp;
  }
  __device__ __forceinline__ void load(int i, int half, int k) {
    if (half == 0) return;
    const uint4* tile = blocks + k * kTileVectorCount;
#pragma unroll
    for (int v = 0; v < kTileVectorCount && k <= last; v += kWarp)
      copy_async(slots + i * kTileVectorCount + v, tile + v, true);
    commit_copies();
  }
  __device__ __forceinline__ void operands(int i, int half, uint32_t (&a)[2][4]) {
    if (half == 0) wait_copies<kAhead - 1>();
    // Always ~0, which ptxas must not know: registers that come straight from memory it uses again while the
    // products that read them are under way (13.0; seen in machine code and in wrong sums).
    const uint32_t mask = last >= 0 ? ~0u : 0u;
    const uint4* block = slots + i * kTileVectorCount + half * 2 * kWarp;
    const uint4 low = block[0], high = block[kWarp];  // rows g and g + 8
    a[0][0] = low.x & mask, a[0][1] = high.x & mask, a[0][2] = low.y & mask, a[0][3] = high.y & mask;
    a[1][0] = low.z & mask, a[1][1] = high.z & mask, a[1][2] = low.w & mask, a[1][3] = high.w & mask;
  }
};

/// Asks for a source's first tiles.
template <class Source>
__device__ __forceinline__ void start(Source& source, int first) {
#pragma unroll
  for (int i = 0; i < Source::kAhead; ++i) source.load(i, 1, first + i);
}

/// The product's stages of activations, and barriers for each: bytes have come, warps have read them.
template <int kCount, int kBytes>
struct Stages {
  static constexpr int kStages = kCount, kStageBytes = kBytes;
  RingBarriers* barriers;
  std::byte* memory;
};

/// sums += weights * rows over column tiles [first, last), behind start(source, first). Stages have constant
/// places in the unrolled loop: with two warps a scheduler, instructions are what a tile takes.
template <class Source, class S, int kSums>
__device__ __forceinline__ void multiply_tiles(Source& source, const ImageRows& rows, int first, int last,
                                               const S& stages, int (&sums)[kSums]) {
  constexpr int kStages = S::kStages;
  constexpr int kFillAhead = kStages - 2;  // the stages of two tiles are still read
  static_assert(kStages % Source::kAhead == 0);
  const uint32_t memory = shared_address(stages.memory);
  const int64_t step = image_tokens(rows.rows) * kImageRow;
  const int8_t* next = rows.image + image_offset(rows.first_row, first, rows.rows);
  const auto fill = [&](int slot, uint32_t empty_parity) {
    wait_parity(&stages.barriers->empty[slot], empty_parity);
    copy_bulk(memory + slot * S::kStageBytes, next, S::kStageBytes, &stages.barriers->full[slot]);
    next += step;
  };
  if (product_thread() == 0) {
#pragma unroll
    for (int i = 0; i < kFillAhead; ++i) {
      if (first + i < last) fill(i, 1);
    }
  }
  __syncwarp();
  uint32_t a[2][2][4];
  uint32_t round = 0;
  for (int base = first; base < last; base += kStages, round ^= 1) {
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      const int k = base + i;
      if (k >= last) break;
      const uint32_t stage = memory + i * S::kStageBytes;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        wgmma_wait<1>();  // the products that read a[half] have ended
        if (half == 0) {  // all that branches: elsewhere the compiler would not let products overlap
          if (i >= 2 || base > first) arrive(&stages.barriers->empty[(i + kStages - 2) % kStages]);
          constexpr int kWrap = kStages - kFillAhead;
          if (product_thread() == 0 && k + kFillAhead < last)
            fill((i + kFillAhead) % kStages, i >= kWrap ? round : round ^ 1);
          __syncwarp();
          wait_parity(&stages.barriers->full[i], round);
        }
        source.operands(i % Source::kAhead, half, a[half]);
        pin(a[half]);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < 2; ++s)
          wgmma<Source::kWeights>(sums, a[half][s], descriptor_of(stage + 64 * half + 32 * s));
        wgmma_commit();
        source.load(i % Source::kAhead, half, k + Source::kAhead);
      }
    }
  }
  wgmma_wait<0>();
  wait_copies<0>();
#pragma unroll
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+r"(sums[i])::"memory");  // not read before the wait
}

#endif

}  // namespace bitnet::cuda
