// Ternary products of several tokens on the integer tensor cores. Weights go from packed tiles straight to
// the registers of the mma (quant/ternary_tiles.h: a lane's word holds its own quads); activations pass
// through shared memory in 128-byte rows, in three stages of asynchronous copies.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/gemm_epilogue.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace bitnet::cuda {
namespace {

constexpr int kStages = 3;
constexpr int kRowVectors = kTileCols / 16;  // 16-byte vectors of a token's row in a stage

/// Warps of a block along rows and tokens; tiles of 16 rows and of 8 tokens that each warp computes.
template <int kRowWarps, int kTokenWarps, int kRowTiles, int kTokenTiles>
struct Shape {
  static constexpr int kThreads = kRowWarps * kTokenWarps * kWarp;
  static constexpr int kWarpGroups = kRowTiles, kWarpTokens = kTokenTiles * 8;
  static constexpr int kGroups = kRowWarps * kRowTiles, kTokens = kTokenWarps * kWarpTokens;
  static constexpr int kTokenWarpCount = kTokenWarps;
  static constexpr int kTileCount = kTokenTiles;
  static constexpr size_t kStageVectors = static_cast<size_t>(kTokens) * kRowVectors;
  static constexpr size_t kSharedBytes = kStages * kStageVectors * 16;
};

/// Odd rows swap their halves: then eight lanes that read two rows meet all 32 banks once.
__device__ __forceinline__ int swizzled(int token, int vector) {
  return token * kRowVectors + (vector ^ (token & 1) << 2);
}

template <class S>
__device__ __forceinline__ void load_stage(const GemmArgs& args, int64_t first_token, int k_tile,
                                           int4* stage) {
  for (int i = threadIdx.x; i < S::kTokens * kRowVectors; i += S::kThreads) {
    const int token = i / kRowVectors, vector = i % kRowVectors;
    const bool valid = first_token + token < args.tokens;
    const int8_t* source =
        args.q + (valid ? first_token + token : 0) * args.q_stride + k_tile * kTileCols + vector * 16;
    copy_async(stage + swizzled(token, vector), source, valid);
  }
}

/// 128 columns: half h of the tile feeds two mma of 32 columns with the quads 2s, 2s + 1 of its words.
template <class S>
__device__ __forceinline__ void multiply_tile(const uint4 (&weights)[S::kWarpGroups], const int4* stage,
                                              int warp_token, int (&sums)[S::kWarpGroups][S::kTileCount][4]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t a[S::kWarpGroups][2][4];
#pragma unroll
    for (int m = 0; m < S::kWarpGroups; ++m) {
      const uint32_t low = half == 0 ? weights[m].x : weights[m].z;
      const uint32_t high = half == 0 ? weights[m].y : weights[m].w;
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        a[m][s][0] = low >> 4 * s & 0x03030303u;
        a[m][s][1] = high >> 4 * s & 0x03030303u;
        a[m][s][2] = low >> (4 * s + 2) & 0x03030303u;
        a[m][s][3] = high >> (4 * s + 2) & 0x03030303u;
      }
    }
#pragma unroll
    for (int n = 0; n < S::kTileCount; ++n) {
      const int4 b = stage[swizzled(warp_token + n * 8 + lane / 4, half * 4 + lane % 4)];
#pragma unroll
      for (int m = 0; m < S::kWarpGroups; ++m) {
        mma_u8(sums[m][n], a[m][0], b.x, b.y);
        mma_u8(sums[m][n], a[m][1], b.z, b.w);
      }
    }
  }
}

template <class S, Epilogue kEpilogue>
__global__ void __launch_bounds__(S::kThreads) gemm_kernel(const GemmArgs args) {
  extern __shared__ int4 stages[];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int k_tiles = static_cast<int>(args.weights.k_tiles);
  const int64_t first_token = int64_t{blockIdx.x} * S::kTokens;
  const int64_t warp_group = int64_t{blockIdx.y} * S::kGroups + warp / S::kTokenWarpCount * S::kWarpGroups;
  const int warp_token = warp % S::kTokenWarpCount * S::kWarpTokens;

  const uint4* weights[S::kWarpGroups];
#pragma unroll
  for (int m = 0; m < S::kWarpGroups; ++m) {
    const int64_t group = min(warp_group + m, args.weights.groups - 1);  // beyond: read again, not written
    weights[m] = static_cast<const uint4*>(args.weights.tiles) + group * k_tiles * kTileVectors + lane;
  }
  uint4 next[S::kWarpGroups];
#pragma unroll
  for (int m = 0; m < S::kWarpGroups; ++m) next[m] = load_stream(weights[m]);
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < k_tiles) load_stage<S>(args, first_token, s, stages + s * S::kStageVectors);
    commit_copies();
  }
  int sums[S::kWarpGroups][S::kTileCount][4] = {};
  for (int k = 0; k < k_tiles; ++k) {
    wait_copies<kStages - 2>();
    __syncthreads();  // stage k is there for all; stage k - 1 is free
    const int ahead = k + kStages - 1;
    if (ahead < k_tiles) load_stage<S>(args, first_token, ahead, stages + ahead % kStages * S::kStageVectors);
    commit_copies();
    uint4 current[S::kWarpGroups];
#pragma unroll
    for (int m = 0; m < S::kWarpGroups; ++m) {
      current[m] = next[m];
      if (k + 1 < k_tiles) next[m] = load_stream(weights[m] + (k + 1) * kTileVectors);
    }
    multiply_tile<S>(current, stages + k % kStages * S::kStageVectors, warp_token, sums);
  }
#pragma unroll
  for (int m = 0; m < S::kWarpGroups; ++m) {
#pragma unroll
    for (int n = 0; n < S::kTileCount; ++n) {
      const int64_t token = first_token + warp_token + n * 8 + lane % 4 * 2;
      write_pair<kEpilogue>(args, warp_group + m, token, sums[m][n][0], sums[m][n][2]);
      write_pair<kEpilogue>(args, warp_group + m, token + 1, sums[m][n][1], sums[m][n][3]);
    }
  }
}

template <class S>
void run_shape(const GemmArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.tokens, S::kTokens)),
                  static_cast<unsigned>(ceil_div<int64_t>(args.weights.groups, S::kGroups)));
  const auto run = [&](auto kernel) {
    launch(kernel, grid, S::kThreads, S::kSharedBytes, Start::kAfterPrevious, stream, args);
  };
  switch (args.epilogue) {
    case Epilogue::kStore:
      return run(gemm_kernel<S, Epilogue::kStore>);
    case Epilogue::kAdd:
      return run(gemm_kernel<S, Epilogue::kAdd>);
    case Epilogue::kRelu2:
      return run(gemm_kernel<S, Epilogue::kRelu2>);
    case Epilogue::kSilu:
      return run(gemm_kernel<S, Epilogue::kSilu>);
  }
}

using Few = Shape<4, 1, 1, 2>;   // 64 rows x 16 tokens
using Some = Shape<2, 2, 2, 4>;  // 64 rows x 64 tokens
using Many = Shape<2, 2, 4, 8>;  // 128 rows x 128 tokens

/// The oracle: one thread a row, weight by weight.
__global__ void naive_kernel(const GemmArgs args) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t token = blockIdx.y;
  if (row >= args.weights.outputs) return;
  const int64_t group = row / kTileRows, in_group = row % kTileRows;
  int sum = 0;
  for (int64_t c = 0; c < args.weights.k_tiles * kTileCols; ++c) {
    const int64_t tile = c / kTileCols, block = c % kTileCols / 16, in_block = c % 16;
    const int64_t lane = in_group % 8 * 4 + block % 4, word = block / 4 * 2 + in_group / 8;
    const auto* words =
        static_cast<const uint32_t*>(args.weights.tiles) + (group * args.weights.k_tiles + tile) * 128;
    const int shift = static_cast<int>(8 * (in_block % 4) + 2 * (in_block / 4));
    const int trit = static_cast<int>(words[lane * 4 + word] >> shift & 3) - 1;
    sum += trit * args.q[token * args.q_stride + c];
  }
  args.y[token * args.y_stride + row] = product(sum, 0, args.weights.row_scale[row], args.scale[token]);
}

}  // namespace

bool gemm_takes_image(int64_t tokens) {
  return device_limits().wgmma && tokens > 1;
}

void ternary_gemm(const GemmArgs& args, Stream stream) {
  if (args.image) return wgmma_gemm(args, stream);
  const int64_t many_blocks =
      ceil_div<int64_t>(args.tokens, Many::kTokens) * ceil_div<int64_t>(args.weights.groups, Many::kGroups);
  if (args.tokens <= Few::kTokens) return run_shape<Few>(args, stream);
  if (many_blocks >= device_limits().multiprocessors) return run_shape<Many>(args, stream);
  run_shape<Some>(args, stream);
}

void naive_ternary(const GemmArgs& args, Stream stream) {
  constexpr unsigned kThreads = 128;
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.weights.outputs, kThreads)),
                  static_cast<unsigned>(args.tokens));
  launch(naive_kernel, grid, kThreads, 0, Start::kAfterPrevious, stream, args);
}

}  // namespace bitnet::cuda
