// Ternary products of several tokens by Hopper's asynchronous tensor cores. A block has 128 rows and 16, 64
// or 128 tokens; up to 64 tokens it has two products at work, each of half the columns. Where that gives too
// few blocks, a cluster of them shares a tile's columns, and each adds up all sums of its share of the
// tokens. Sums are integers: exact in any order.

#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgmma_tiles.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kRows = kWgmmaGroups * kTileRows;
constexpr int kStagedRow = kRows + 4;  // ints of a token: the lanes that write two tokens meet all banks
constexpr int64_t kMostSplits = 8;     // 1, 2, 4 or 8 blocks a cluster, which can have 8 everywhere

template <int kTokens>
struct Tile {
  static constexpr int kParts = kTokens == 128 ? 1 : 2;  ///< products at work
  static constexpr int kThreads = kParts * kWgmmaThreads, kWarps = kThreads / kWarp;
  static constexpr int kBlocksTogether = 2 / kParts;  ///< on a multiprocessor
  static constexpr int kStageBytes = kTokens * kTileCols;
  static constexpr int kStages = kTokens == 128 ? 6 : kMostSlots;
  static constexpr int kAhead = kTokens == 128 ? 3 : 8;  ///< tiles of weights
  static constexpr size_t kStagesBytes =
      std::max<size_t>(size_t{kStages} * kStageBytes, sizeof(int) * kTokens * kStagedRow);
  static constexpr size_t kPartBytes =
      kStagesBytes + size_t{kAhead} * kWgmmaGroups * kTileVectors * sizeof(uint4);
  static_assert(kPartBytes % kSwizzleAlignment == 0);
  static constexpr size_t kSharedBytes = kSwizzleAlignment + kParts * kPartBytes;
  /// What it costs to add up the sums of several blocks, in column tiles.
  static constexpr int64_t kJoinCost = kTokens == 128 ? 7 : kTokens == 64 ? 3 : 1;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// A warp's group of 16 rows; lane (g, t) holds rows g and g + 8 of tokens 2t and 2t + 1 of each eight. kAdd:
/// to what is staged.
template <bool kAdd, int kSums>
__device__ __forceinline__ void stage_sums(const int (&sums)[kSums], int* staged) {
  const int lane = threadIdx.x % kWarp;
  int* mine = staged + lane % 4 * 2 * kStagedRow + product_thread() / kWarp * kTileRows + lane / 4;
#pragma unroll
  for (int n = 0; n < kSums / 4; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int& place = mine[(8 * n + i % 2) * kStagedRow + i / 2 * 8];
      place = kAdd ? place + sums[4 * n + i] : sums[4 * n + i];
    }
  }
}

/// What a lane writes of each token: elements lane, lane + 32, ... of the tile's.
template <Epilogue kEpilogue>
struct LaneRows {
  static constexpr int kOutputs = kIsPaired<kEpilogue> ? 2 : 4;
  static constexpr int kSums = 4;
  float scales[kSums];
  bool one_scale;  ///< then a token has one quotient

  static __device__ __forceinline__ int output(int j) {
    return static_cast<int>(threadIdx.x) % kWarp + j * kWarp;
  }
  /// Of sum i: with pairs, the gate of output i / 2, and its up.
  static __device__ __forceinline__ int row(int i) {
    if constexpr (!kIsPaired<kEpilogue>) return output(i);
    return output(i / 2) / 8 * kTileRows + output(i / 2) % 8 + i % 2 * 8;
  }
  __device__ __forceinline__ explicit LaneRows(const TernaryWeights& weights) {
    const int64_t first = int64_t{blockIdx.y} * kRows, rows = weights.groups * kTileRows;
    one_scale = true;
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      scales[i] = weights.row_scale[min(first + row(i), rows - 1)];
      one_scale = one_scale && scales[i] == scales[0];
    }
  }
  /// As `product` (ternary.cuh) of each sum.
  __device__ __forceinline__ void products(const int (&sums)[kSums], int32_t q_sum, float scale,
                                           float (&p)[kSums]) const {
    const float first = __fdiv_rn(scales[0], scale);
#pragma unroll
    for (int i = 0; i < kSums; ++i)
      p[i] = __fmul_rn(static_cast<float>(sums[i] - q_sum), one_scale ? first : __fdiv_rn(scales[i], scale));
  }
};

/// The tile's tokens [begin, end) that a block writes. Lane n of a warp has the scale and the sum of its
/// token n: begin + warp + n kWarps.
template <int kTokens>
struct TokenShare {
  static constexpr int kWarps = Tile<kTokens>::kWarps;
  int64_t first_token = 0;
  int begin = 0, end = 0;
  float scale = 0;
  int32_t q_sum = 0;

  TokenShare() = default;
  __device__ __forceinline__ TokenShare(const GemmArgs& args, int64_t first, int tokens, int rank, int splits)
      : first_token(first), begin(tokens * rank / splits), end(tokens * (rank + 1) / splits) {
    const int t =
        begin + static_cast<int>(threadIdx.x) / kWarp + static_cast<int>(threadIdx.x) % kWarp * kWarps;
    if (t >= end) return;
    scale = __ldcg(args.scale + first_token + t);
    q_sum = __ldcg(args.sum + first_token + t);
  }
};

/// Writes the block's share; the sums lie with all kSplits blocks of the cluster.
template <Epilogue kEpilogue, int kSplits, int kTokens>
__device__ __forceinline__ void write_tokens(const GemmArgs& args, const LaneRows<kEpilogue>& rows,
                                             const int* staged, const TokenShare<kTokens>& share, int rank) {
  using Lane = LaneRows<kEpilogue>;
  constexpr int kWarps = TokenShare<kTokens>::kWarps;
  // Tokens whose loads do not wait for one another: all of a warp's, or as many as registers hold.
  constexpr int kTogether = std::min({(kTokens + kSplits * kWarps - 1) / (kSplits * kWarps), 8 / kSplits, 4});
  const int64_t first_output = int64_t{blockIdx.y} * (kIsPaired<kEpilogue> ? kRows / 2 : kRows);
  uint32_t blocks[kSplits];
#pragma unroll
  for (int r = 1; r < kSplits; ++r) blocks[r] = remote_address(staged, (rank + r) % kSplits);
  int n = 0;  // of the warp's tokens
  for (int base = share.begin + static_cast<int>(threadIdx.x) / kWarp; base < share.end;
       base += kTogether * kWarps) {
    float before[kTogether][Lane::kOutputs];
    int sums[kTogether][Lane::kSums];
    uint32_t others[kSplits][kTogether][Lane::kSums];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int t = min(base + i * kWarps, share.end - 1);
#pragma unroll
      for (int r = 1; r < kSplits; ++r) {
#pragma unroll
        for (int j = 0; j < Lane::kSums; ++j)
          others[r][i][j] =
              load_remote(blocks[r] + static_cast<uint32_t>(sizeof(int)) * (t * kStagedRow + Lane::row(j)));
      }
#pragma unroll
      for (int j = 0; j < Lane::kOutputs; ++j) {
        const int64_t output = first_output + Lane::output(j);
        if (kEpilogue == Epilogue::kAdd && output < args.weights.outputs)
          before[i][j] = __ldcg(args.y + (share.first_token + t) * args.y_stride + output);
      }
#pragma unroll
      for (int j = 0; j < Lane::kSums; ++j) sums[i][j] = staged[t * kStagedRow + Lane::row(j)];
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i, ++n) {
      const int t = base + i * kWarps;
      if (t >= share.end) break;
#pragma unroll
      for (int r = 1; r < kSplits; ++r) {
#pragma unroll
        for (int j = 0; j < Lane::kSums; ++j) sums[i][j] += static_cast<int>(others[r][i][j]);
      }
      float p[Lane::kSums];
      rows.products(sums[i], __shfl_sync(0xffffffffu, share.q_sum, n),
                    __shfl_sync(0xffffffffu, share.scale, n), p);
      float* y = args.y + (share.first_token + t) * args.y_stride;
#pragma unroll
      for (int j = 0; j < Lane::kOutputs; ++j) {
        const int64_t output = first_output + Lane::output(j);
        if (output >= args.weights.outputs) continue;
        if constexpr (kIsPaired<kEpilogue>) {
          y[output] = gated<kEpilogue>(p[2 * j], p[2 * j + 1]);
        } else {
          y[output] = kEpilogue == Epilogue::kAdd ? __fadd_rn(before[i][j], p[j]) : p[j];
        }
      }
    }
  }
}

#endif

/// Grid: (tiles of tokens x blocks of a cluster, tiles of rows).
template <Epilogue kEpilogue, int kTokens>
__global__ void __launch_bounds__(Tile<kTokens>::kThreads, Tile<kTokens>::kBlocksTogether)
    wgmma_kernel(const GemmArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using T = Tile<kTokens>;
  extern __shared__ std::byte unaligned[];
  __shared__ RingBarriers barriers[T::kParts];
  const uint32_t skip =
      (kSwizzleAlignment - shared_address(unaligned) % kSwizzleAlignment) % kSwizzleAlignment;
  const int part = static_cast<int>(threadIdx.x) / kWgmmaThreads;
  std::byte* const stages = unaligned + skip + part * T::kPartBytes;
  if (product_thread() == 0) init_ring(barriers[part], T::kStages, kWgmmaGroups);
  const int splits = cluster_blocks(), rank = static_cast<int>(blockIdx.x) % splits;
  const int64_t first_token = int64_t{static_cast<int>(blockIdx.x) / splits} * kTokens;
  const int k_tiles = static_cast<int>(args.weights.k_tiles);
  const int product = rank * T::kParts + part, products = splits * T::kParts;
  const int first = k_tiles * product / products, last = k_tiles * (product + 1) / products;
  // A group beyond the last is read again, and not written.
  const int64_t group =
      min(int64_t{blockIdx.y} * kWgmmaGroups + product_thread() / kWarp, args.weights.groups - 1);
  TernarySource<T::kAhead> source;
  source.tiles =
      static_cast<const uint4*>(args.weights.tiles) + group * k_tiles * kTileVectors + threadIdx.x % kWarp;
  source.last = last - 1;
  source.use(stages + T::kStagesBytes);
  start(source, first);
  const LaneRows<kEpilogue> rows(args.weights);
  __syncthreads();
  let_next_start();
  wait_for_previous();
  // Scales come while the product runs, if it leaves registers for them.
  constexpr bool kEarly = T::kParts == 2;
  const auto take_share = [&] {
    const auto tokens = static_cast<int>(min(int64_t{kTokens}, args.tokens - first_token));
    return TokenShare<kTokens>(args, first_token, tokens, rank, splits);
  };
  TokenShare<kTokens> share;
  if constexpr (kEarly) share = take_share();
  int sums[kTokens / 2] = {};
  const Stages<T::kStages, T::kStageBytes> ring{&barriers[part], stages};
  multiply_tiles(source, {args.q, first_token, args.tokens}, first, last, ring, sums);
  if constexpr (!kEarly) share = take_share();
  __syncthreads();  // all warps have read the stages
  auto* const staged = reinterpret_cast<int*>(unaligned + skip);
  if (part == 0) stage_sums<false>(sums, staged);
  __syncthreads();
  if constexpr (T::kParts == 2) {
    if (part == 1) stage_sums<true>(sums, staged);
    __syncthreads();
  }
  if (splits == 1) return write_tokens<kEpilogue, 1>(args, rows, staged, share, rank);
  cluster_arrive();
  cluster_wait();
  if (splits == 2) {
    write_tokens<kEpilogue, 2>(args, rows, staged, share, rank);
  } else if (splits == 4) {
    write_tokens<kEpilogue, 4>(args, rows, staged, share, rank);
  } else {
    write_tokens<kEpilogue, 8>(args, rows, staged, share, rank);
  }
  cluster_arrive_relaxed();
  cluster_wait();  // nobody reads this block's sums any more
#endif
}

/// Blocks that share a tile's columns, 1, 2, 4 or 8 (clusters of other sizes measured slower): what takes the
/// fewest rounds of the GPU, of so many column tiles each and what a block takes besides. Two products on a
/// multiprocessor hardly slow each other down: what a tile takes is mostly waiting for instructions.
template <int kTokens>
unsigned splits_of(int64_t blocks, int64_t k_tiles) {
  using T = Tile<kTokens>;
  constexpr int64_t kBesides = 4;
  int64_t best = 1, least = 0;
  for (int64_t splits = 1; splits <= std::min(kMostSplits, k_tiles); splits *= 2) {
    const int64_t rounds =
        ceil_div<int64_t>(blocks * splits, int64_t{T::kBlocksTogether} * device_limits().multiprocessors);
    const int64_t tiles = ceil_div(k_tiles, splits * T::kParts);
    const int64_t cost = rounds * (tiles + kBesides + (splits > 1 ? T::kJoinCost : 0));
    if (splits > 1 && cost >= least) continue;
    best = splits;
    least = cost;
  }
  return static_cast<unsigned>(best);
}

template <int kTokens>
void run_tokens(const GemmArgs& args, Stream stream) {
  const auto token_tiles = static_cast<unsigned>(ceil_div<int64_t>(args.tokens, kTokens));
  const auto row_tiles = static_cast<unsigned>(ceil_div<int64_t>(args.weights.groups, kWgmmaGroups));
  const unsigned splits = splits_of<kTokens>(int64_t{token_tiles} * row_tiles, args.weights.k_tiles);
  const auto run = [&](auto kernel) {
    launch(kernel, dim3(token_tiles * splits, row_tiles), Tile<kTokens>::kThreads,
           Tile<kTokens>::kSharedBytes, Start::kOverlapped, stream, args, {.blocks = splits});
  };
  switch (args.epilogue) {
    case Epilogue::kStore:
      return run(wgmma_kernel<Epilogue::kStore, kTokens>);
    case Epilogue::kAdd:
      return run(wgmma_kernel<Epilogue::kAdd, kTokens>);
    case Epilogue::kRelu2:
      return run(wgmma_kernel<Epilogue::kRelu2, kTokens>);
    case Epilogue::kSilu:
      return run(wgmma_kernel<Epilogue::kSilu, kTokens>);
  }
}

}  // namespace

void wgmma_gemm(const GemmArgs& args, Stream stream) {
  if (args.tokens <= 16) return run_tokens<16>(args, stream);
  if (args.tokens <= 64) return run_tokens<64>(args, stream);
  if (prompt_gemm_pays(args)) return prompt_gemm(args, stream);
  run_tokens<128>(args, stream);
}

}  // namespace bitnet::cuda
