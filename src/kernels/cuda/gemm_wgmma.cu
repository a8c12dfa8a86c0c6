// Ternary products of many tokens by Hopper's asynchronous tensor cores (wgmma: sm_90a alone). A block has
// 128 rows and 128 tokens: two groups of four warps, each warp a group of 16 rows whose weights go from
// packed tiles to the registers of the product. Activations lie in memory as shared memory wants them
// (activation_image.cuh); one thread brings them by bulk copies, three column tiles ahead.

#include "kernels/cuda/activation_image.cuh"
#include "kernels/cuda/gemm_epilogue.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/weight_ring.cuh"

namespace bitnet::cuda {
namespace {

constexpr int kTokens = static_cast<int>(kImageTokens), kGroups = 8, kStages = 4;
constexpr int kAhead = 4;  // tiles of weights on their way to a warp's registers
constexpr int kThreads = kGroups * kWarp;
constexpr int kStageBytes = kTokens * kTileCols;
constexpr int kSums = kTokens / 2;   // of a thread: 64 rows x 128 tokens over 128 threads
constexpr size_t kAlignment = 1024;  // of a swizzled stage
constexpr size_t kSharedBytes = size_t{kStages} * kStageBytes + kAlignment;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_finish() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

/// 128 rows (tokens) of 128 bytes, swizzled; `address` moves by 32 bytes for each 32 columns.
__device__ __forceinline__ uint64_t descriptor_of(uint32_t address) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kAtomStride = uint64_t{1024 / 16} << 32;
  return kSwizzle128 | kAtomStride | uint64_t{1} << 16 | (address & 0x3ffffu) >> 4;
}

/// sums += codes (64 rows x 32 columns, from registers) * activations (32 columns x 128 tokens).
__device__ __forceinline__ void wgmma(int (&d)[kSums], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.u8.s8 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, 1;\n"
      "}"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]),
        "+r"(d[8]), "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]),
        "+r"(d[16]), "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]),
        "+r"(d[23]), "+r"(d[24]), "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]),
        "+r"(d[30]), "+r"(d[31]), "+r"(d[32]), "+r"(d[33]), "+r"(d[34]), "+r"(d[35]), "+r"(d[36]),
        "+r"(d[37]), "+r"(d[38]), "+r"(d[39]), "+r"(d[40]), "+r"(d[41]), "+r"(d[42]), "+r"(d[43]),
        "+r"(d[44]), "+r"(d[45]), "+r"(d[46]), "+r"(d[47]), "+r"(d[48]), "+r"(d[49]), "+r"(d[50]),
        "+r"(d[51]), "+r"(d[52]), "+r"(d[53]), "+r"(d[54]), "+r"(d[55]), "+r"(d[56]), "+r"(d[57]),
        "+r"(d[58]), "+r"(d[59]), "+r"(d[60]), "+r"(d[61]), "+r"(d[62]), "+r"(d[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/// The codes of two quads of columns of rows g and g + 8: step (half, s) takes quads 2s and 2s + 1.
__device__ __forceinline__ void unpack(uint32_t low, uint32_t high, int s, uint32_t (&a)[4]) {
  a[0] = low >> 4 * s & 0x03030303u;
  a[1] = high >> 4 * s & 0x03030303u;
  a[2] = low >> (4 * s + 2) & 0x03030303u;
  a[3] = high >> (4 * s + 2) & 0x03030303u;
}

__device__ __forceinline__ void multiply_tiles(const GemmArgs& args, int64_t first_token, int64_t group,
                                               WeightRing ring, int (&sums)[kSums]) {
  const int k_tiles = static_cast<int>(args.weights.k_tiles);
  const int64_t stored = min(group, args.weights.groups - 1);  // beyond: read again, not written
  const auto* weights =
      static_cast<const uint4*>(args.weights.tiles) + stored * k_tiles * kTileVectors + threadIdx.x % kWarp;
  uint4 ahead[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) ahead[i] = load_stream(weights + min(i, k_tiles - 1) * kTileVectors);
  WeightRing filled = ring;
  const auto fill = [&](int k) {
    if (threadIdx.x == 0 && k < k_tiles)
      fill_slot(filled, args.q + image_offset(first_token, k, args.tokens), kStageBytes);
  };
  for (int k = 0; k < kStages - 1; ++k) fill(k);
  for (int base = 0; base < k_tiles; base += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead;
         ++i) {  // registers by constant index: a copy would wait for what is on its way
      // Beyond the last tile codes are 0: products that stood under a condition would not overlap.
      const int k = base + i;
      const bool exists = k < k_tiles;
      if (!exists) ahead[i] = make_uint4(0, 0, 0, 0);
      fill(k + kStages - 1);
      __syncwarp();
      uint32_t a[4][4];
      unpack(ahead[i].x, ahead[i].y, 0, a[0]);
      unpack(ahead[i].x, ahead[i].y, 1, a[1]);
      unpack(ahead[i].z, ahead[i].w, 0, a[2]);
      unpack(ahead[i].z, ahead[i].w, 1, a[3]);
      ahead[i] = load_stream(weights + min(k + kAhead, k_tiles - 1) * kTileVectors);
      if (exists) (void)await_slot(ring);
      const uint32_t stage = shared_address(ring.data());
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < 4; ++step) wgmma(sums, a[step], descriptor_of(stage + 32 * step));
      wgmma_finish();
      if (exists) release_slot(ring);
    }
  }
}

#endif

template <Epilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, 2) wgmma_kernel(const GemmArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ std::byte unaligned[];
  __shared__ RingBarriers barriers;
  const uint32_t skip = (kAlignment - shared_address(unaligned) % kAlignment) % kAlignment;
  if (threadIdx.x == 0) init_ring(barriers, kStages, kGroups);
  __syncthreads();
  const WeightRing ring{&barriers, unaligned + skip, kStageBytes, kStages};
  const int64_t first_token = int64_t{blockIdx.x} * kTokens;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t group = int64_t{blockIdx.y} * kGroups + warp;
  int sums[kSums] = {};
  multiply_tiles(args, first_token, group, ring, sums);
#pragma unroll
  for (int n = 0; n < kTokens / 8; ++n) {
    const int64_t token = first_token + n * 8 + lane % 4 * 2;
    write_pair<kEpilogue>(args, group, token, sums[4 * n], sums[4 * n + 2]);
    write_pair<kEpilogue>(args, group, token + 1, sums[4 * n + 1], sums[4 * n + 3]);
  }
#endif
}

}  // namespace

void wgmma_gemm(const GemmArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.tokens, kTokens)),
                  static_cast<unsigned>(ceil_div<int64_t>(args.weights.groups, kGroups)));
  const auto run = [&](auto kernel) {
    launch(kernel, grid, kThreads, kSharedBytes, Start::kAfterPrevious, stream, args);
  };
  switch (args.epilogue) {
    case Epilogue::kStore:
      return run(wgmma_kernel<Epilogue::kStore>);
    case Epilogue::kAdd:
      return run(wgmma_kernel<Epilogue::kAdd>);
    case Epilogue::kRelu2:
      return run(wgmma_kernel<Epilogue::kRelu2>);
    case Epilogue::kSilu:
      return run(wgmma_kernel<Epilogue::kSilu>);
  }
}

}  // namespace bitnet::cuda
