// Ternary products of prompts by Hopper's asynchronous tensor cores. Two blocks on every multiprocessor go
// through tiles of 128 rows by 128 or 160 tokens. Four warps bring packed weights and activations through a
// ring in shared memory, from one tile into the next; four others unpack, multiply and write.

#include "kernels/cuda/activation_image.cuh"
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ternary.cuh"
#include "kernels/cuda/weight_ring.cuh"
#include "kernels/cuda/wgmma.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kProductWarps = 4, kProductThreads = kProductWarps * kWarp;
constexpr int kPromptThreads = 2 * kProductThreads;
constexpr int kParts = 2;  ///< of a tile's rows: 64 each, 16 a warp
constexpr int kPartRows = kProductWarps * kTileRows, kPromptRows = kParts * kPartRows;
constexpr int kRowGroups = kProductWarps * kParts;                          ///< of 16 rows, in a tile
constexpr int kCodeBytes = kTileVectors * static_cast<int>(sizeof(uint4));  ///< of 16 rows, one stage
constexpr int kPartVectors = kProductWarps * kTileVectors;                  ///< of codes
constexpr int kVectorBytes = static_cast<int>(sizeof(uint4));
constexpr int kBlocksTogether = 2;        ///< on a multiprocessor
constexpr size_t kStageAlignment = 1024;  // of the swizzle

/// What becomes of a token's sums: factors for a warp's rows 0 ... 7 and 8 ... 15.
struct alignas(16) TokenFactors {
  float factor[2];
  int32_t q_sum;
  float scale;
};

template <int kTokens>
struct PromptTile {
  static constexpr int kActivationBytes = kTokens * static_cast<int>(kImageRow);
  static constexpr int kStageBytes = kActivationBytes + kRowGroups * kCodeBytes;
  static constexpr int kStages = kTokens == 128 ? 5 : 4;
  static_assert(kStages <= kMostSlots);
  /// For this tile and the one before, which a slower warp may still write.
  static constexpr size_t kFactorBytes = 2 * kTokens * sizeof(TokenFactors);
  static constexpr size_t kSharedBytes = kStageAlignment + size_t{kStages} * kStageBytes + kFactorBytes;
};

/// The tiles of a product, tokens first: blocks at work together share rows.
struct TileGrid {
  int token_tiles, tiles;
};
struct PromptArgs {
  GemmArgs gemm;
  TileGrid grid;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// A place in the ring that goes on from tile to tile.
template <int kStages>
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++slot < kStages) return;
    slot = 0;
    parity ^= 1;
  }
};

/// The four warps that fill the ring. Codes come by many small copies, each thread's its own; activations by
/// one bulk copy a stage.
template <int kTokens>
struct TileProducer {
  using T = PromptTile<kTokens>;
  static constexpr int kArrivals = kProductThreads + 1;  ///< each thread's copies of codes, the activations
  static constexpr int kCopies = kRowGroups / kProductWarps;
  const PromptArgs& args;
  RingBarriers& barriers;
  std::byte* memory;
  int thread, k_tiles;

  __device__ __forceinline__ void bring_codes(int tile, int k, int slot) const {
    const GemmArgs& gemm = args.gemm;
    const int64_t first = int64_t{tile / args.grid.token_tiles} * kRowGroups + thread / kWarp;
    auto* const to = reinterpret_cast<uint4*>(memory + slot * T::kStageBytes + T::kActivationBytes) + thread;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      // A group beyond the last is read again, and not written.
      const int64_t group = min(first + i * kProductWarps, gemm.weights.groups - 1);
      const auto* codes =
          static_cast<const uint4*>(gemm.weights.tiles) + (group * k_tiles + k) * kTileVectors;
      copy_async(to + i * kProductThreads, codes + thread % kWarp, true);
    }
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&barriers.full[slot]))
                 : "memory");
  }
  __device__ __forceinline__ void bring_activations(int tile, int k, int slot) const {
    if (thread != 0) return;
    const GemmArgs& gemm = args.gemm;
    const int64_t token = int64_t{tile % args.grid.token_tiles} * kTokens;
    const int64_t rows = min(int64_t{kTokens}, image_tokens(gemm.tokens) - token);
    const int bytes = static_cast<int>(rows * kImageRow);
    const uint32_t full = shared_address(&barriers.full[slot]);
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(full), "r"(bytes) : "memory");
    bulk_copy(shared_address(memory + slot * T::kStageBytes), gemm.q + image_offset(token, k, gemm.tokens),
              bytes, full);
  }
  /// What an epilogue that adds will read comes near meanwhile.
  __device__ __forceinline__ void fetch_outputs(int tile) const {
    constexpr int kLine = 32, kLines = kPromptRows / kLine;  // floats
    const GemmArgs& gemm = args.gemm;
    const int64_t first_token = int64_t{tile % args.grid.token_tiles} * kTokens;
    const int64_t output = int64_t{tile / args.grid.token_tiles} * kPromptRows + thread % kLines * kLine;
    if (output >= gemm.weights.outputs) return;
    for (int t = thread / kLines; t < kTokens && first_token + t < gemm.tokens; t += kProductThreads / kLines)
      prefetch(gemm.y + (first_token + t) * gemm.y_stride + output);
  }
  __device__ __forceinline__ void run() const {
    int ahead = min(k_tiles, T::kStages);  // weights travel while the kernel in front runs
    for (int k = 0; k < ahead; ++k) bring_codes(static_cast<int>(blockIdx.x), k, k);
    wait_for_previous();
    RingPlace<T::kStages> place;
    for (int tile = static_cast<int>(blockIdx.x); tile < args.grid.tiles;
         tile += static_cast<int>(gridDim.x)) {
      if (args.gemm.epilogue == Epilogue::kAdd) fetch_outputs(tile);
      for (int k = 0; k < k_tiles; ++k, place.advance()) {
        wait_parity(&barriers.empty[place.slot], place.parity ^ 1);
        bring_activations(tile, k, place.slot);
        if (ahead > 0) {
          --ahead;
        } else {
          bring_codes(tile, k, place.slot);
        }
      }
    }
  }
};

/// Sums over all columns, and the place in the ring.
template <int kTokens>
struct TileSums {
  using T = PromptTile<kTokens>;
  int sums[kParts][kTokens / 2];
  RingPlace<T::kStages> place;
  int before = 0;  ///< the slot whose products may still be under way

  __device__ __forceinline__ void multiply(RingBarriers& barriers, uint32_t memory, const uint4* codes,
                                           int k_tiles) {
    uint32_t a[2][kParts][2][4];
#pragma unroll
    for (int i = 0; i < kParts * kTokens / 2; ++i) sums[i % kParts][i / kParts] = 0;
    for (int k = 0; k < k_tiles; ++k) {
      const uint32_t stage = memory + place.slot * T::kStageBytes;
      wgmma_wait<1>();  // what read a[0] has ended
      wait_parity(&barriers.full[place.slot], place.parity);
      uint4 mine[kParts];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        mine[part] = codes[place.slot * (T::kStageBytes / kVectorBytes) + part * kPartVectors];
        unpack(mine[part].x, mine[part].y, a[0][part]);
      }
      start_half(stage, a[0]);
      wgmma_wait<1>();  // all of the stage before has ended
      give_back(barriers, before, k > 0);
#pragma unroll
      for (int part = 0; part < kParts; ++part) unpack(mine[part].z, mine[part].w, a[1][part]);
      start_half(stage + 64, a[1]);
      before = place.slot;
      place.advance();
    }
    wgmma_wait<0>();
    give_back(barriers, before, true);
#pragma unroll
    for (int i = 0; i < kParts * kTokens / 2; ++i)
      asm volatile("" : "+r"(sums[i % kParts][i / kParts])::"memory");
  }

 private:
  /// Codes of rows g and g + 8: the operands of two steps.
  static __device__ __forceinline__ void unpack(uint32_t low, uint32_t high, uint32_t (&a)[2][4]) {
    unpack_codes(low, high, a);
    pin(a);
  }
  __device__ __forceinline__ void start_half(uint32_t activations, const uint32_t (&a)[kParts][2][4]) {
    wgmma_fence();
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int s = 0; s < 2; ++s)
        wgmma<Weights::kUnsigned>(sums[part], a[part][s], descriptor_of(activations + 32 * s));
    }
    wgmma_commit();
  }
  /// Without a branch: the compiler would not let products overlap.
  static __device__ __forceinline__ void give_back(RingBarriers& barriers, int slot, bool really) {
    __syncwarp();
    asm volatile(
        "{\n"
        ".reg .pred gives;\n"
        "setp.ne.u32 gives, %1, 0;\n"
        "@gives mbarrier.arrive.shared.b64 _, [%0];\n"
        "}" ::"r"(shared_address(&barriers.empty[slot])),
        "r"(really && threadIdx.x % kWarp == 0 ? 1 : 0)
        : "memory");
  }
};

/// What a lane writes: rows g and g + 8 of sixteen in each part, of tokens 2t and 2t + 1 of each eight.
template <Epilogue kEpilogue, int kTokens>
struct LaneOutputs {
  float scales[kParts][2];
  bool one_scale;  ///< of all the tile's rows 0 ... 7 of sixteen, one of the others: a token's factors are
                   ///< ready

  static __device__ __forceinline__ int64_t row(int64_t tile_row, int part) {
    const int thread = static_cast<int>(threadIdx.x);
    return tile_row + part * kPartRows + thread / kWarp * kTileRows + thread % kWarp / 4;
  }
  /// Of a row among the first eight of sixteen.
  static __device__ __forceinline__ int64_t output(int64_t row) {
    return kIsPaired<kEpilogue> ? row / kTileRows * (kTileRows / 2) + row % kTileRows : row;
  }
  /// Fills `factors` for the tile's tokens.
  __device__ __forceinline__ void prepare(const GemmArgs& args, int64_t tile_row, int64_t first_token,
                                          TokenFactors* factors) {
    const int64_t last = args.weights.groups * kTileRows - 1;
    float common[2];
    bool same = true;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      common[side] = args.weights.row_scale[min(tile_row + 8 * side, last)];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const int64_t mine = row(tile_row, part);
        const int64_t written = output(mine) + (kIsPaired<kEpilogue> ? 0 : 8 * side);
        scales[part][side] = args.weights.row_scale[min(mine + 8 * side, last)];
        same = same && (written >= args.weights.outputs || scales[part][side] == common[side]);
      }
    }
    for (int t = static_cast<int>(threadIdx.x); t < kTokens && first_token + t < args.tokens;
         t += kProductThreads) {
      const float scale = __ldcg(args.scale + first_token + t);
      factors[t] = {{__fdiv_rn(common[0], scale), __fdiv_rn(common[1], scale)},
                    __ldcg(args.sum + first_token + t),
                    scale};
    }
    int all;
    asm volatile(
        "{\n"
        ".reg .pred mine, all;\n"
        "setp.ne.s32 mine, %1, 0;\n"
        "barrier.cta.red.and.pred all, 1, %2, mine;\n"
        "selp.s32 %0, 1, 0, all;\n"
        "}"
        : "=r"(all)
        : "r"(same ? 1 : 0), "n"(kProductThreads)
        : "memory");
    one_scale = all != 0;
  }
};

/// *p, or 0; and *p = value, or nothing: without a branch, behind which each would be waited for.
__device__ __forceinline__ float load_if(const float* p, bool valid) {
  float value;
  asm volatile(
      "{\n"
      ".reg .pred valid;\n"
      "setp.ne.s32 valid, %2, 0;\n"
      "mov.f32 %0, 0f00000000;\n"
      "@valid ld.global.cg.f32 %0, [%1];\n"
      "}"
      : "=f"(value)
      : "l"(p), "r"(valid ? 1 : 0)
      : "memory");
  return value;
}
__device__ __forceinline__ void store_if(float* p, float value, bool valid) {
  asm volatile(
      "{\n"
      ".reg .pred valid;\n"
      "setp.ne.s32 valid, %2, 0;\n"
      "@valid st.global.f32 [%0], %1;\n"
      "}" ::"l"(p),
      "f"(value), "r"(valid ? 1 : 0)
      : "memory");
}

/// Writes a part's sums.
template <Epilogue kEpilogue, int kTokens>
struct PartWriter {
  static constexpr int kOutputs = kIsPaired<kEpilogue> ? 1 : 2;
  static constexpr int kBlocks = kTokens / 8;  ///< of eight tokens
  static constexpr int kTogether =
      kTokens == 128 ? 4 : 2;   ///< blocks whose loads do not wait for one another
  const TokenFactors* factors;  ///< of the lane's first token
  float scales[2];
  float* y;  ///< of the lane's first token and output
  int64_t stride;
  int tokens;  ///< of the tile, from the lane's first on
  bool exists[kOutputs];

  __device__ __forceinline__ PartWriter(const GemmArgs& args, const float (&row_scales)[2],
                                        const TokenFactors* tile_factors, int64_t output, int64_t first_token)
      : scales{row_scales[0], row_scales[1]}, stride(args.y_stride) {
    const int t = static_cast<int>(threadIdx.x) % 4 * 2;
    factors = tile_factors + t;
    y = args.y + (first_token + t) * stride + output;
    tokens = static_cast<int>(min(int64_t{kTokens}, args.tokens - first_token)) - t;
#pragma unroll
    for (int j = 0; j < kOutputs; ++j) exists[j] = output + 8 * j < args.weights.outputs;
  }
  struct Old {
    float y[2][kOutputs];
  };
  /// `from` is the lane's place in the block of tokens.
  __device__ __forceinline__ void load(int block, const float* from, Old& old) const {
    if constexpr (kEpilogue == Epilogue::kAdd) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < kOutputs; ++j)
          old.y[i][j] = load_if(from + i * stride + 8 * j, 8 * block + i < tokens && exists[j]);
      }
    }
  }
  /// As ternary.cuh's product; kReady: the token has its factors.
  template <bool kReady>
  __device__ __forceinline__ float product(int sum, int side, const TokenFactors& token) const {
    const float factor = kReady ? token.factor[side] : __fdiv_rn(scales[side], token.scale);
    return __fmul_rn(static_cast<float>(sum - token.q_sum), factor);
  }
  template <bool kReady>
  __device__ __forceinline__ void write(int block, float* to, const Old& old, const int* sums) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool valid = 8 * block + i < tokens;
      const TokenFactors token = factors[8 * block + i];
      const float low = product<kReady>(sums[i], 0, token), high = product<kReady>(sums[i + 2], 1, token);
      if constexpr (kIsPaired<kEpilogue>) {
        store_if(to + i * stride, gated<kEpilogue>(low, high), valid && exists[0]);
      } else {
        constexpr bool kAdds = kEpilogue == Epilogue::kAdd;
        store_if(to + i * stride, kAdds ? __fadd_rn(old.y[i][0], low) : low, valid && exists[0]);
        store_if(to + i * stride + 8, kAdds ? __fadd_rn(old.y[i][1], high) : high, valid && exists[1]);
      }
    }
  }
  __device__ __forceinline__ void write_ready(const int (&sums)[kTokens / 2]) const {
    float* next = y;
#pragma unroll
    for (int base = 0; base < kBlocks; base += kTogether) {
      Old old[kTogether];
      float* to = next;
#pragma unroll
      for (int n = 0; n < kTogether; ++n, next += 8 * stride) load(base + n, next, old[n]);
#pragma unroll
      for (int n = 0; n < kTogether; ++n, to += 8 * stride)
        write<true>(base + n, to, old[n], sums + 4 * (base + n));
    }
  }
  /// Rows that share no scale are rare: little code, the sums move to the front one block after another.
  __device__ __forceinline__ void write_each(int (&sums)[kTokens / 2]) const {
    float* to = y;
#pragma unroll 1
    for (int block = 0; block < kBlocks; ++block, to += 8 * stride) {
      Old old;
      load(block, to, old);
      write<false>(block, to, old, sums);
#pragma unroll
      for (int i = 0; i < kTokens / 2 - 4; ++i) sums[i] = sums[i + 4];
    }
  }
};

template <Epilogue kEpilogue, int kTokens>
__device__ __forceinline__ void multiply_and_write(const PromptArgs& args, RingBarriers& barriers,
                                                   std::byte* memory) {
  using T = PromptTile<kTokens>;
  const int k_tiles = static_cast<int>(args.gemm.weights.k_tiles);
  const auto* codes = reinterpret_cast<const uint4*>(memory + T::kActivationBytes) + threadIdx.x;
  auto* const factors = reinterpret_cast<TokenFactors*>(memory + size_t{T::kStages} * T::kStageBytes);
  TileSums<kTokens> sums;
  wait_for_previous();
  int round = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < args.grid.tiles;
       tile += static_cast<int>(gridDim.x), round ^= 1) {
    const int64_t first_token = int64_t{tile % args.grid.token_tiles} * kTokens;
    const int64_t tile_row = int64_t{tile / args.grid.token_tiles} * kPromptRows;
    TokenFactors* const mine = factors + round * kTokens;
    LaneOutputs<kEpilogue, kTokens> outputs;
    outputs.prepare(args.gemm, tile_row, first_token, mine);
    sums.multiply(barriers, shared_address(memory), codes, k_tiles);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int64_t output = outputs.output(outputs.row(tile_row, part));
      const PartWriter<kEpilogue, kTokens> writer(args.gemm, outputs.scales[part], mine, output, first_token);
      if (outputs.one_scale) {
        writer.write_ready(sums.sums[part]);
      } else {
        writer.write_each(sums.sums[part]);
      }
    }
  }
}

#endif

/// Grid: at most the tiles.
template <Epilogue kEpilogue, int kTokens>
__global__ void __launch_bounds__(kPromptThreads, kBlocksTogether) prompt_kernel(const PromptArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ std::byte unaligned[];
  __shared__ RingBarriers barriers;
  std::byte* const memory =
      unaligned + (kStageAlignment - shared_address(unaligned) % kStageAlignment) % kStageAlignment;
  if (threadIdx.x == 0)
    init_ring(barriers, PromptTile<kTokens>::kStages, kProductWarps, TileProducer<kTokens>::kArrivals);
  __syncthreads();
  let_next_start();
  if (threadIdx.x >= kProductThreads) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    const TileProducer<kTokens> producer{args, barriers, memory,
                                         static_cast<int>(threadIdx.x) - kProductThreads,
                                         static_cast<int>(args.gemm.weights.k_tiles)};
    producer.run();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    multiply_and_write<kEpilogue, kTokens>(args, barriers, memory);
  }
#endif
}

int places() {
  return kBlocksTogether * device_limits().multiprocessors;
}
TileGrid grid_of(const GemmArgs& args, int64_t tokens) {
  const int64_t token_tiles = ceil_div(args.tokens, tokens);
  const int64_t row_tiles = ceil_div<int64_t>(args.weights.groups, kRowGroups);
  return {static_cast<int>(token_tiles), static_cast<int>(token_tiles * row_tiles)};
}

template <int kTokens>
void run_prompt(const GemmArgs& args, Stream stream) {
  const TileGrid grid = grid_of(args, kTokens);
  const auto run = [&](auto kernel) {
    launch(kernel, dim3(static_cast<unsigned>(std::min(grid.tiles, places()))), kPromptThreads,
           PromptTile<kTokens>::kSharedBytes, Start::kOverlapped, stream, {args, grid});
  };
  switch (args.epilogue) {
    case Epilogue::kStore:
      return run(prompt_kernel<Epilogue::kStore, kTokens>);
    case Epilogue::kAdd:
      return run(prompt_kernel<Epilogue::kAdd, kTokens>);
    case Epilogue::kRelu2:
      return run(prompt_kernel<Epilogue::kRelu2, kTokens>);
    case Epilogue::kSilu:
      return run(prompt_kernel<Epilogue::kSilu, kTokens>);
  }
}

}  // namespace

bool prompt_gemm_pays(const GemmArgs& args) {
  return grid_of(args, 128).tiles >= places();
}

void prompt_gemm(const GemmArgs& args, Stream stream) {
  const auto rounds = [&](int64_t tokens) { return ceil_div(grid_of(args, tokens).tiles, places()); };
  // Rounds of tiles cost as much as they have tokens.
  if (rounds(160) * 160 < rounds(128) * 128) return run_prompt<160>(args, stream);
  run_prompt<128>(args, stream);
}

}  // namespace bitnet::cuda
