// Vectors of which each of several GPUs has computed a part, made whole on all of them, by kernels that read
// and write each other's memory.
//
// A few elements are pushed: as words of value and epoch into an area of every other GPU (exchange.cuh has
// the same words within one GPU), where each thread waits for those that it copies on. One way over the link,
// no fence, no flag. The area is double: who writes it for the gather after the next has finished the next
// one, for which every other GPU had to finish this one. Many elements are pulled: a flag says that a part is
// there, then it is read where it lies. Nobody writes it again before a gather that its readers take part in.

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kFewThreads = 256, kManyThreads = 512;
constexpr int64_t kMostFewBlocks = 64;
/// Of waiting for another GPU, whose thread may be at work on something else before.
constexpr uint64_t kPatienceNs = uint64_t{60} * 1000 * 1000 * 1000;

struct GatherArea {
  uint32_t epoch;             ///< of the first gather of the pass
  uint32_t there[kMostGpus];  ///< the last gather for which a GPU's part can be pulled
  alignas(256) uint64_t words[2][kFewElements];
};

/// Ends the kernel with an error where a GPU never answers, instead of hanging for ever.
struct Patience {
  uint32_t polls = 0;
  uint64_t since = 0;

  __device__ __forceinline__ void poll() {
    if (++polls % 4096 != 0) return;
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    if (since == 0) since = now;
    if (now - since > kPatienceNs) __trap();
  }
};

__device__ __forceinline__ void push_two(uint64_t* place, float2 value, uint32_t epoch) {
  const uint64_t a = uint64_t{epoch} << 32 | __float_as_uint(value.x);
  const uint64_t b = uint64_t{epoch} << 32 | __float_as_uint(value.y);
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(place), "l"(a), "l"(b) : "memory");
}

__device__ __forceinline__ float2 await_two(const uint64_t* place, uint32_t epoch) {
  for (Patience patience;; patience.poll()) {
    uint64_t a, b;
    asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(place) : "memory");
    if (static_cast<uint32_t>(a >> 32) == epoch && static_cast<uint32_t>(b >> 32) == epoch)
      return make_float2(__uint_as_float(static_cast<uint32_t>(a)),
                         __uint_as_float(static_cast<uint32_t>(b)));
  }
}

__device__ __forceinline__ GatherArea* area(const GatherArgs& args, int rank) {
  return static_cast<GatherArea*>(args.areas[rank]);
}

__device__ __forceinline__ uint32_t start(const GatherArgs& args) {
  let_next_start();
  wait_for_previous();
  return __ldcg(&area(args, args.rank)->epoch) + args.index;
}

/// Units of kElements floats of a row: this GPU's [first, first + own), others' the rest.
struct Units {
  int row, first, own;

  __device__ __forceinline__ Units(const GatherArgs& args, int elements)
      : row(static_cast<int>(args.begin[args.size] + elements - 1) / elements),
        first(static_cast<int>(args.begin[args.rank]) / elements),
        own(static_cast<int>(args.begin[args.rank + 1] + elements - 1) / elements - first) {}
  [[nodiscard]] __device__ __forceinline__ int others() const { return row - own; }
  /// Unit i of those of the others.
  [[nodiscard]] __device__ __forceinline__ int other(int i) const { return i < first ? i : i + own; }
};

__global__ void __launch_bounds__(kFewThreads) gather_few_kernel(const GatherArgs args) {
  const uint32_t epoch = start(args);
  const Units pairs(args, 2);
  const int tokens = static_cast<int>(args.tokens), threads = static_cast<int>(gridDim.x) * kFewThreads;
  const int thread = static_cast<int>(blockIdx.x) * kFewThreads + static_cast<int>(threadIdx.x);
  float* const rows = args.rows[args.rank];
  for (int i = thread; i < tokens * pairs.own; i += threads) {
    const int token = i / pairs.own, pair = pairs.first + i % pairs.own;
    const float2 value = __ldcg(reinterpret_cast<const float2*>(rows + token * args.stride) + pair);
    for (int r = 0; r < args.size; ++r) {
      if (r != args.rank)
        push_two(area(args, r)->words[epoch % 2] + 2 * (token * pairs.row + pair), value, epoch);
    }
  }
  const uint64_t* words = area(args, args.rank)->words[epoch % 2];
  for (int i = thread; i < tokens * pairs.others(); i += threads) {
    const int token = i / pairs.others(), pair = pairs.other(i % pairs.others());
    reinterpret_cast<float2*>(rows + token * args.stride)[pair] =
        await_two(words + 2 * (token * pairs.row + pair), epoch);
  }
}

__device__ __forceinline__ void await_flag(const uint32_t* flag, uint32_t epoch) {
  for (Patience patience;; patience.poll()) {
    uint32_t there;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(there) : "l"(flag) : "memory");
    // A GPU may be at the next gather already.
    if (static_cast<int32_t>(there - epoch) >= 0) return;
  }
}

/// Vector: float4 where all parts begin at one, else float2.
template <class Vector>
__global__ void __launch_bounds__(kManyThreads) gather_many_kernel(const GatherArgs args) {
  const uint32_t epoch = start(args);
  const int other = static_cast<int>(threadIdx.x);
  if (other < args.size && other != args.rank) {
    if (blockIdx.x == 0) {
      __threadfence_system();
      asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(&area(args, other)->there[args.rank]),
                   "r"(epoch)
                   : "memory");
    }
    await_flag(&area(args, args.rank)->there[other], epoch);
  }
  __syncthreads();
  const Units units(args, sizeof(Vector) / sizeof(float));
  const int64_t count = args.tokens * units.others(), threads = int64_t{gridDim.x} * kManyThreads;
  for (int64_t i = int64_t{blockIdx.x} * kManyThreads + threadIdx.x; i < count; i += threads) {
    const int64_t token = i / units.others();
    const int unit = units.other(static_cast<int>(i % units.others()));
    const auto element = static_cast<int64_t>(unit) * static_cast<int>(sizeof(Vector) / sizeof(float));
    int r = 0;
    while (element >= args.begin[r + 1]) ++r;
    const int64_t offset = token * args.stride;
    reinterpret_cast<Vector*>(args.rows[args.rank] + offset)[unit] =
        __ldcg(reinterpret_cast<const Vector*>(args.rows[r] + offset) + unit);
  }
}

struct NextPassArgs {
  GatherArea* area;
  uint32_t gathers;
};
__global__ void next_pass_kernel(const NextPassArgs args) {
  wait_for_previous();
  args.area->epoch += args.gathers;
}

/// Grid: (elements of the longest part, tokens, parts).
template <bool kPack>
__global__ void pack_kernel(const PackArgs args) {
  const int part = kPack ? args.rank : static_cast<int>(blockIdx.z);
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, token = blockIdx.y;
  wait_for_previous();
  if (i >= args.begin[part + 1] - args.begin[part] || (!kPack && part == args.rank)) return;
  float* const whole = args.rows + token * args.stride + args.begin[part] + i;
  float* const packed = args.packed + (part * args.tokens + token) * args.longest + i;
  if constexpr (kPack) {
    *packed = *whole;
  } else {
    *whole = *packed;
  }
}

template <bool kPack>
void run_pack(const PackArgs& args, Stream stream) {
  constexpr unsigned kThreads = 256;
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.longest, kThreads)),
                  static_cast<unsigned>(args.tokens), kPack ? 1 : static_cast<unsigned>(args.size));
  launch(pack_kernel<kPack>, grid, kThreads, 0, Start::kOverlapped, stream, args);
}

}  // namespace

bool can_reach(int from, int to) {
  int can = 0;
  check(cudaDeviceCanAccessPeer(&can, from, to), "asking whether GPUs reach each other");
  return can != 0;
}

void reach(int peer) {
  const cudaError_t status = cudaDeviceEnablePeerAccess(peer, 0);
  if (status != cudaErrorPeerAccessAlreadyEnabled) return check(status, "reaching another GPU's memory");
  (void)cudaGetLastError();
}

size_t gather_area_bytes() {
  return sizeof(GatherArea);
}

void next_pass(void* area, uint32_t gathers, Stream stream) {
  launch(next_pass_kernel, dim3(1), 1, 0, Start::kOverlapped, stream,
         {static_cast<GatherArea*>(area), gathers});
}

void gather_few(const GatherArgs& args, Stream stream) {
  const int64_t pairs = args.tokens * ((args.begin[args.size] + 1) / 2);
  const auto blocks = static_cast<unsigned>(std::min(kMostFewBlocks, ceil_div<int64_t>(pairs, kFewThreads)));
  launch(gather_few_kernel, dim3(blocks), kFewThreads, 0, Start::kOverlapped, stream, args);
}

void gather_many(const GatherArgs& args, Stream stream) {
  const dim3 blocks(static_cast<unsigned>(device_limits().multiprocessors));
  const bool fours =
      std::all_of(args.begin, args.begin + args.size, [](int64_t begin) { return begin % 4 == 0; });
  launch(fours ? gather_many_kernel<float4> : gather_many_kernel<float2>, blocks, kManyThreads, 0,
         Start::kOverlapped, stream, args);
}

void pack(const PackArgs& args, Stream stream) {
  run_pack<true>(args, stream);
}

void unpack(const PackArgs& args, Stream stream) {
  run_pack<false>(args, stream);
}

}  // namespace bitnet::cuda
