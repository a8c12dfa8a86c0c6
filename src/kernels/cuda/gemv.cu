// Decode of one token: norms, int8 rounding, ternary product and epilogue in one kernel. Every block computes
// the row's norm and rounding for itself (2560 floats from L2), which costs less than a kernel boundary; its
// weights, which depend on nothing, are on their way to registers meanwhile, and with overlapped launch
// already while the kernel in front still runs.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/ternary.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
/// Tiles that a warp holds in registers ahead of their use.
constexpr int kAhead = 6;
constexpr int kBlocksPerMultiprocessor = 2;

/// Two rows' partial sums: accumulator s holds codes * 4^s, so that masks do without shifts.
/// Bound: 64 * 2 * 128 * cols / 4 < 2^31 for cols < 2^18.
struct RowPair {
  int low[4] = {}, high[4] = {};

  __device__ __forceinline__ void add(uint32_t word_low, uint32_t word_high, int4 q) {
    const int part[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      low[s] = dot4(word_low & (0x03030303u << 2 * s), part[s], low[s]);
      high[s] = dot4(word_high & (0x03030303u << 2 * s), part[s], high[s]);
    }
  }
  /// Adds both rows to sums[0] and sums[8], from the four lanes that share them.
  __device__ __forceinline__ void flush(int* sums) {
    int first = low[0] + (low[1] >> 2) + (low[2] >> 4) + (low[3] >> 6);
    int second = high[0] + (high[1] >> 2) + (high[2] >> 4) + (high[3] >> 6);
#pragma unroll
    for (int mask = 1; mask <= 2; mask *= 2) {
      first += __shfl_xor_sync(0xffffffffu, first, mask);
      second += __shfl_xor_sync(0xffffffffu, second, mask);
    }
    if (threadIdx.x % 4 == 0) {
      atomicAdd(sums, first);  // integers: the order cannot matter
      atomicAdd(sums + 8, second);
    }
    *this = RowPair{};
  }
};

/// Shared memory of a block: the row as floats, the first norm's weights, the row's int8, and per row of
/// weights a sum and a scale.
struct Layout {
  int padded_cols, block_rows;
  bool normed;
  [[nodiscard]] size_t bytes() const {
    return static_cast<size_t>(padded_cols) * (normed ? 9 : 5) + static_cast<size_t>(block_rows) * 8;
  }
};

template <Epilogue kEpilogue>
__device__ void write_outputs(const GemvArgs& args, int64_t first_group, int rows, const int* sums,
                              const float* row_scales, RowScale row) {
  const auto value = [&](int r) { return product(sums[r], row.sum, row_scales[r], row.scale); };
  if constexpr (kIsPaired<kEpilogue>) {
    for (int i = threadIdx.x; i < rows / 2; i += kThreads) {
      const int64_t output = first_group * (kTileRows / 2) + i;
      const int gate = i / 8 * kTileRows + i % 8;
      if (output < args.weights.outputs) args.y[output] = gated<kEpilogue>(value(gate), value(gate + 8));
    }
  } else {
    for (int r = threadIdx.x; r < rows; r += kThreads) {
      const int64_t output = first_group * kTileRows + r;
      if (output >= args.weights.outputs) continue;
      const float old = kEpilogue == Epilogue::kAdd ? __ldcg(args.y + output) : 0.0f;
      args.y[output] = kEpilogue == Epilogue::kAdd ? __fadd_rn(old, value(r)) : value(r);
    }
  }
}

template <Epilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) gemv_kernel(const GemvArgs args) {
  extern __shared__ float4 shared[];
  __shared__ RowReduction<kThreads> reduction;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int k_tiles = static_cast<int>(args.weights.k_tiles);
  const int vectors = k_tiles * kTileCols / 4;
  const int64_t first_group = args.weights.groups * blockIdx.x / gridDim.x;
  const int groups = static_cast<int>(args.weights.groups * (blockIdx.x + 1) / gridDim.x - first_group);
  float4* row = shared;
  float4* norm_weight = row + vectors;
  auto* q = reinterpret_cast<uint32_t*>(args.norms.first == nullptr ? norm_weight : norm_weight + vectors);
  int* sums = reinterpret_cast<int*>(q + vectors);
  float* row_scales = reinterpret_cast<float*>(sums + groups * kTileRows);

  // The block's tiles lie one after another; each warp takes an equal run of them.
  const int tiles = groups * k_tiles;
  const int begin = tiles * warp / kWarps, end = tiles * (warp + 1) / kWarps;
  const uint4* weights =
      static_cast<const uint4*>(args.weights.tiles) + (first_group * k_tiles) * kTileVectors + lane;
  uint4 ahead[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (begin + i < end) ahead[i] = load_stream(weights + (begin + i) * kTileVectors);
  }
  for (int r = threadIdx.x; r < groups * kTileRows; r += kThreads) {
    sums[r] = 0;
    row_scales[r] = args.weights.row_scale[first_group * kTileRows + r];
  }
  const auto* first_norm = reinterpret_cast<const float4*>(args.norms.first);
  if (first_norm != nullptr) {  // each thread copies what it will read
    for (int i = threadIdx.x; i < vectors; i += kThreads) copy_async(norm_weight + i, first_norm + i, true);
  }
  commit_copies();
  let_next_start();
  wait_for_previous();
  wait_copies<0>();
  normalize_row<kThreads>(args.x, vectors, args.cols, args.norms,
                          first_norm == nullptr ? nullptr : norm_weight, row, reduction);
  const RowScale scale =
      quantize_row<kThreads>(row, vectors, reduction, [&](int quad, uint32_t four) { q[quad] = four; });

  RowPair pair;
  int group = begin / k_tiles, column_tile = begin % k_tiles;
  const int row_in_tile = lane / 4;
  const auto* my_q = reinterpret_cast<const int4*>(q) + lane % 4;
  for (int base = begin; base < end; base += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (base + i >= end) break;
      const uint4 w = ahead[i];
      if (base + i + kAhead < end) ahead[i] = load_stream(weights + (base + i + kAhead) * kTileVectors);
      pair.add(w.x, w.y, my_q[column_tile * 8]);
      pair.add(w.z, w.w, my_q[column_tile * 8 + 4]);
      if (++column_tile == k_tiles) {
        pair.flush(sums + group * kTileRows + row_in_tile);
        column_tile = 0;
        ++group;
      }
    }
  }
  if (begin < end && column_tile != 0) pair.flush(sums + group * kTileRows + row_in_tile);
  __syncthreads();
  write_outputs<kEpilogue>(args, first_group, groups * kTileRows, sums, row_scales, scale);
}

}  // namespace

void ternary_gemv(const GemvArgs& args, Stream stream) {
  const int64_t blocks = std::min<int64_t>(
      args.weights.groups, int64_t{kBlocksPerMultiprocessor} * device_limits().multiprocessors);
  const int64_t block_groups = ceil_div(args.weights.groups, blocks);
  const Layout layout{.padded_cols = static_cast<int>(args.weights.k_tiles * kTileCols),
                      .block_rows = static_cast<int>(block_groups * kTileRows),
                      .normed = args.norms.first != nullptr};
  const auto run = [&](auto kernel) {
    launch(kernel, dim3(static_cast<unsigned>(blocks)), kThreads, layout.bytes(), Start::kOverlapped, stream,
           args);
  };
  switch (args.epilogue) {
    case Epilogue::kStore:
      return run(gemv_kernel<Epilogue::kStore>);
    case Epilogue::kAdd:
      return run(gemv_kernel<Epilogue::kAdd>);
    case Epilogue::kRelu2:
      return run(gemv_kernel<Epilogue::kRelu2>);
    case Epilogue::kSilu:
      return run(gemv_kernel<Epilogue::kSilu>);
  }
}

}  // namespace bitnet::cuda
