#pragma once

// A block's product with wgmma: eight warps with a group of 16 rows of weights each, from memory through
// registers, against rows of an activation image, which one thread brings to shared memory by bulk copies.
// Half a column tile is in the tensor cores while the next half's operands are made.

#include "kernels/cuda/activation_image.cuh"
#include "kernels/cuda/int8_tiles.cuh"
#include "kernels/cuda/ternary.cuh"
#include "kernels/cuda/weight_ring.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace bitnet::cuda {

inline constexpr int kWgmmaGroups = 8, kWgmmaThreads = kWgmmaGroups * kWarp;
inline constexpr size_t kSwizzleAlignment = 1024;

/// Rows of an image [first_row, first_row + as many as a stage holds).
struct ImageRows {
  const int8_t* image;
  int64_t first_row, rows;  ///< rows: of the whole image
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// A warp's packed ternary weights, kAhead tiles on their way.
struct TernarySource {
  static constexpr int kAhead = 4;
  static constexpr Weights kWeights = Weights::kUnsigned;
  const uint4* tiles;  ///< this lane's vector of the first tile
  int last;            ///< tile that exists
  uint4 ahead[kAhead];

  /// What `operands` of a half, and none before it, has needed.
  __device__ __forceinline__ void load(int i, int half, int k) {
    if (half == 1) ahead[i] = load_stream(tiles + min(k, last) * kTileVectors);
  }
  /// Of steps 2 half and 2 half + 1: the codes of two quads of columns of rows g and g + 8.
  __device__ __forceinline__ void operands(int i, int half, bool exists, uint32_t (&a)[2][4]) const {
    const uint32_t mask = exists ? 0x03030303u : 0u;
    const uint32_t low = half == 0 ? ahead[i].x : ahead[i].z, high = half == 0 ? ahead[i].y : ahead[i].w;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      a[s][0] = low >> 4 * s & mask;
      a[s][1] = high >> 4 * s & mask;
      a[s][2] = low >> (4 * s + 2) & mask;
      a[s][3] = high >> (4 * s + 2) & mask;
    }
  }
};

/// A warp's group of 16 rows of an int8 head (int8_tiles.cuh).
struct Int8Source {
  static constexpr int kAhead = 1;
  static constexpr Weights kWeights = Weights::kSigned;
  const uint4* blocks;  ///< this lane's vector of the first
  int last;             ///< tile, of two blocks, that exists
  uint4 ahead[2][2];    ///< of each block: row g, row g + 8

  __device__ __forceinline__ void load(int /*i*/, int half, int k) {
    const uint4* block = blocks + (min(k, last) * 2 + half) * (kInt8BlockBytes / 16);
    ahead[half][0] = load_stream(block);
    ahead[half][1] = load_stream(block + kWarp);
  }
  __device__ __forceinline__ void operands(int /*i*/, int half, bool exists, uint32_t (&a)[2][4]) const {
    // Always ~0, which ptxas must not know: registers that come straight from memory it uses again while the
    // products that read them are under way (13.0; seen in machine code and in wrong sums).
    const uint32_t mask = exists && last >= 0 ? ~0u : 0u;
    const uint4 low = ahead[half][0], high = ahead[half][1];
    a[0][0] = low.x & mask, a[0][1] = high.x & mask, a[0][2] = low.y & mask, a[0][3] = high.y & mask;
    a[1][0] = low.z & mask, a[1][1] = high.z & mask, a[1][2] = low.w & mask, a[1][3] = high.w & mask;
  }
};

/// Asks for a source's first tiles.
template <class Source>
__device__ __forceinline__ void start(Source& source, int first) {
#pragma unroll
  for (int i = 0; i < Source::kAhead; ++i) {
    source.load(i, 0, first + i);
    source.load(i, 1, first + i);
  }
}

/// sums += weights * rows over column tiles [first, last), behind start(source, first).
template <class Source, int kSums>
__device__ __forceinline__ void multiply_tiles(Source& source, const ImageRows& rows, int first, int last,
                                               WeightRing ring, int (&sums)[kSums]) {
  constexpr int kAhead = Source::kAhead;
  WeightRing filled = ring, released = ring;
  const auto fill = [&](int k) {
    if (threadIdx.x == 0 && k < last)
      fill_slot(filled, rows.image + image_offset(rows.first_row, k, rows.rows), ring.slot_bytes);
    __syncwarp();
  };
  // Stages of two tiles are still read, and filling should not wait for a warp that is one behind.
  const int fill_ahead = ring.slot_count - 3;
  for (int k = first; k < first + fill_ahead; ++k) fill(k);
  uint32_t a[2][2][4];
  for (int base = first; base < last; base += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {  // registers by constant index
      // Beyond the last tile weights are 0: products that stood under a condition would not overlap.
      const int k = base + i;
      const bool exists = k < last;
      uint32_t stage = 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        wgmma_wait<1>();  // the products that read a[half] have ended
        if (half == 0) {  // all that branches: elsewhere the compiler would not let products overlap
          if (k >= first + 2 && k < last + 2) release_slot(released);  // of tile k - 2
          fill(k + fill_ahead);
          if (exists) (void)await_slot(ring);
          stage = shared_address(ring.data());
          if (exists) ring.advance();
        }
        source.operands(i, half, exists, a[half]);
        pin(a[half]);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < 2; ++s)
          wgmma<Source::kWeights>(sums, a[half][s], descriptor_of(stage + 64 * half + 32 * s));
        wgmma_commit();
        source.load(i, half, k + kAhead);
      }
    }
  }
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+r"(sums[i])::"memory");  // not read before the wait
}

#endif

}  // namespace bitnet::cuda
