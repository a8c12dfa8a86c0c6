// The scan of an int8 head for up to 64 tokens (head_top.cu) by Hopper's asynchronous tensor cores. A block
// takes 128 rows of the head and all tokens, whose digits are rows of an image: hi, lo, hi, lo.

#include "kernels/cuda/head_scan.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgmma_tiles.cuh"

namespace bitnet::cuda {
namespace {

constexpr int kStages = 4;  // and the weights' slots: two blocks share a multiprocessor

template <int kTokens>
__global__ void __launch_bounds__(kWgmmaThreads, 2) wgmma_scan_kernel(const HeadScanArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int kDigits = 2 * kTokens, kStageBytes = kDigits * static_cast<int>(kImageRow);
  extern __shared__ std::byte unaligned[];
  __shared__ RingBarriers barriers;
  __shared__ SplitState states[kTokens];
  const uint32_t skip =
      (kSwizzleAlignment - shared_address(unaligned) % kSwizzleAlignment) % kSwizzleAlignment;
  if (threadIdx.x == 0) init_ring(barriers, kStages, kWgmmaGroups);
  const Int8Copy& copy = args.head.copy;
  const int64_t group = int64_t{blockIdx.x} * kWgmmaGroups + threadIdx.x / kWarp;
  const int k_tiles = static_cast<int>(copy.blocks / 2);
  Int8Source source;
  source.blocks = reinterpret_cast<const uint4*>(copy.tiles) +
                  min(group, copy.groups - 1) * copy.blocks * (kInt8BlockBytes / 16) + threadIdx.x % kWarp;
  source.last = k_tiles - 1;
  source.use(unaligned + skip + size_t{kStages} * kStageBytes);
  start(source, 0);
  let_next_start();
  wait_for_previous();
  if (threadIdx.x < args.head.tokens) states[threadIdx.x] = args.parts.states[threadIdx.x];
  __syncthreads();
  int sums[kDigits / 2] = {};
  const Stages<kStages, kStageBytes> stages{&barriers, unaligned + skip};
  multiply_tiles(source, {args.parts.digits, 0, kDigitRows}, 0, k_tiles, stages, sums);
  if (group < copy.groups) write_bounds<kDigits / 8>(args, group, states, 0, sums);
#endif
}

template <int kTokens>
void run_tokens(const HeadScanArgs& args, Stream stream) {
  constexpr size_t kSharedBytes =
      kSwizzleAlignment + size_t{kStages} * 2 * kTokens * kImageRow + kInt8SourceBytes;
  launch(wgmma_scan_kernel<kTokens>,
         dim3(static_cast<unsigned>(ceil_div<int64_t>(args.head.copy.groups, kWgmmaGroups))), kWgmmaThreads,
         kSharedBytes, Start::kOverlapped, stream, args);
}

}  // namespace

void wgmma_head_scan(const HeadScanArgs& args, Stream stream) {
  if (args.head.tokens <= 32) return run_tokens<32>(args, stream);
  run_tokens<64>(args, stream);
}

}  // namespace bitnet::cuda
