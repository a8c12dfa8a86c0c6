// The two walls of a GPU, measured: reading memory, and int8 products on registers.

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTogether = 8;  // loads in flight of a thread

struct ReadArgs {
  const uint4* vectors;
  int64_t count;
  uint32_t* out;
};

/// The sum is written where it is a certain value, so that all must be read.
__global__ void __launch_bounds__(kThreads) read_kernel(const ReadArgs args) {
  const int64_t threads = int64_t{gridDim.x} * kThreads;
  uint32_t sum = 0;
  for (int64_t base = int64_t{blockIdx.x} * kThreads + threadIdx.x; base < args.count;
       base += kTogether * threads) {
    uint4 v[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
      v[i] = load_stream(args.vectors + min(base + i * threads, args.count - 1));
#pragma unroll
    for (int i = 0; i < kTogether; ++i) sum ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
  }
  if (sum == 0x12345678u) *args.out = sum;
}

constexpr int kRounds = 2048, kChains = 8;

__global__ void __launch_bounds__(kThreads) mma_peak_kernel(uint32_t* out) {
  const uint32_t bits = threadIdx.x * 0x9e3779b9u;
  const uint32_t a[4] = {bits & 0x03030303u, bits >> 2 & 0x03030303u, bits >> 4 & 0x03030303u,
                         bits >> 6 & 0x03030303u};
  int sums[kChains][4] = {};
  for (int round = 0; round < kRounds; ++round) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) mma_u8(sums[c], a, static_cast<int>(bits) + c, static_cast<int>(~bits));
  }
  int sum = 0;
#pragma unroll
  for (int c = 0; c < kChains; ++c) sum ^= sums[c][0] ^ sums[c][1] ^ sums[c][2] ^ sums[c][3];
  if (sum == 0x12345678) *out = static_cast<uint32_t>(sum);
}

}  // namespace

void read_memory(const void* data, size_t bytes, uint32_t* out, Stream stream) {
  launch(read_kernel, dim3(static_cast<unsigned>(8 * device_limits().multiprocessors)), kThreads, 0,
         Start::kAfterPrevious, stream,
         {static_cast<const uint4*>(data), static_cast<int64_t>(bytes / sizeof(uint4)), out});
}

double int8_peak(uint32_t* out, Stream stream) {
  if (device_limits().wgmma) return wgmma_peak(out, stream);
  const int blocks = 4 * device_limits().multiprocessors;
  launch(mma_peak_kernel, dim3(static_cast<unsigned>(blocks)), kThreads, 0, Start::kAfterPrevious, stream,
         out);
  constexpr double kOperations = 2.0 * 16 * 32 * 8 * kChains * kRounds;  // of a warp
  return kOperations * blocks * (kThreads / kWarp);
}

}  // namespace bitnet::cuda
