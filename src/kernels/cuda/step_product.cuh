#pragma once

// A product of the persistent decode kernel: waits for the input vector, norms and rounds it, multiplies it
// with the block's rows as they stand in the ring, and publishes the outputs.

#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/step.cuh"
#include "kernels/cuda/ternary.cuh"

namespace bitnet::cuda {

#if __CUDA_ARCH__ >= 900

/// Where a product's input comes from: pairs, or before the first layer plain floats.
struct StepInput {
  const Pair* pairs;
  const float* plain;
  uint32_t epoch;
  int cols, padded;
  double inverse_cols;
  const float* norm;  ///< may be null
  float eps;
};

/// The thread's elements 2 (thread + kWorkers u), 2 (thread + kWorkers u) + 1 of the input; all loads in
/// flight together.
template <int kUnits>
__device__ __forceinline__ void await_input(const StepInput& input, float2 (&x)[kUnits]) {
  const int units = input.cols / 2;
  unsigned missing = 0;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    x[u] = make_float2(0, 0);
    if (static_cast<int>(threadIdx.x) + u * kWorkers < units) missing |= 1u << u;
  }
  const auto ask = [&] {
    TwoPairs pairs[kUnits] = {};  // what no path sets would be live through all loops around
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      if (missing >> u & 1u)
        pairs[u] = load_two(input.pairs + 2 * (static_cast<int>(threadIdx.x) + u * kWorkers));
    }
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      if ((missing >> u & 1u) == 0 || !pairs[u].are(input.epoch)) continue;
      x[u] = make_float2(pairs[u].first.value, pairs[u].second.value);
      missing &= ~(1u << u);
    }
    return missing == 0;
  };
  await_all<true>(ask, [&] {
    const int unit = static_cast<int>(threadIdx.x) + (__ffs(static_cast<int>(missing)) - 1) * kWorkers;
    await_pair(input.pairs + 2 * unit, input.epoch);
  });
}

/// The sum over the warp's lanes, for all of them: two f64 products of the tensor cores with ones.
__device__ __forceinline__ double fast_warp_sum(double value) {
  const auto add_fours = [](double b, double& d0,
                            double& d1) {  // d: of lanes 4 n ... 4 n + 3, n = 2 t, 2 t + 1
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%4, %4};"
        : "=d"(d0), "=d"(d1)
        : "d"(1.0), "d"(b), "d"(0.0));
  };
  double d0, d1;
  add_fours(value, d0, d1);
  add_fours(d0 + d1, d0, d1);
  return d0;
}
/// The sum of kCount values, as a tree.
template <int kCount>
__device__ __forceinline__ double sum_of(const double* values) {
  if constexpr (kCount == 1) {
    return *values;
  } else {
    return sum_of<kCount / 2>(values) + sum_of<kCount - kCount / 2>(values + kCount / 2);
  }
}

struct Rounded {
  float scale;
  int32_t sum;
};

/// q = int8 of the normed input, for all workers after the barrier inside; padding is 0.
template <int kUnits>
__device__ __forceinline__ Rounded round_input(const StepInput& input, StepState& state, uint16_t* q) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int units = input.cols / 2;
  float2 x[kUnits], weight[kUnits];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int unit = static_cast<int>(threadIdx.x) + u * kWorkers;
    weight[u] = make_float2(1, 1);
    if (input.norm != nullptr && unit < units)
      weight[u] = __ldg(reinterpret_cast<const float2*>(input.norm) + unit);
  }
  if (input.plain == nullptr) {
    await_input<kUnits>(input, x);
  } else {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int unit = static_cast<int>(threadIdx.x) + u * kWorkers;
      x[u] = unit < units ? __ldcg(reinterpret_cast<const float2*>(input.plain) + unit) : make_float2(0, 0);
    }
  }
  if (input.norm != nullptr) {
    double even = 0, odd = 0;
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      even = fma(static_cast<double>(x[u].x), static_cast<double>(x[u].x), even);
      odd = fma(static_cast<double>(x[u].y), static_cast<double>(x[u].y), odd);
    }
    const double squares = fast_warp_sum(even + odd);
    if (lane == 0) state.squares[warp] = squares;
    sync_workers();
    const float factor = norm_factor(sum_of<kStepWarps>(state.squares), input.inverse_cols, input.eps);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      x[u].x = __fmul_rn(__fmul_rn(x[u].x, factor), weight[u].x);
      x[u].y = __fmul_rn(__fmul_rn(x[u].y, factor), weight[u].y);
    }
  }
  uint32_t magnitude = magnitude_bits(1e-5f);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int unit = static_cast<int>(threadIdx.x) + u * kWorkers;
    if (unit < units) magnitude = max(magnitude, max(magnitude_bits(x[u].x), magnitude_bits(x[u].y)));
  }
  magnitude = __reduce_max_sync(0xffffffffu, magnitude);
  if (lane == 0) state.magnitude[warp] = magnitude;
  sync_workers();
  magnitude = __reduce_max_sync(0xffffffffu, state.magnitude[lane % kStepWarps]);
  const float scale = __fdiv_rn(127.0f, __uint_as_float(magnitude));
  const bool finite = magnitude < 0x7f800000u;
  int32_t sum = 0;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int unit = static_cast<int>(threadIdx.x) + u * kWorkers;
    if (unit >= input.padded / 2) continue;
    const bool there = finite && unit < units;
    const int a = there ? __float2int_rn(__fmul_rn(x[u].x, scale)) : 0;
    const int b = there ? __float2int_rn(__fmul_rn(x[u].y, scale)) : 0;
    sum += a + b;
    q[unit] = static_cast<uint16_t>((a & 0xff) | (b & 0xff) << 8);
  }
  sum = __reduce_add_sync(0xffffffffu, sum);
  if (lane == 0) state.q_sum[warp] = sum;
  sync_workers();
  return {scale, __reduce_add_sync(0xffffffffu, lane < kStepWarps ? state.q_sum[lane] : 0)};
}

__device__ __forceinline__ Rounded round_input(const StepInput& input, StepState& state, uint16_t* q) {
  if (input.padded <= 4 * 2 * kWorkers) return round_input<4>(input, state, q);
  return round_input<kMostUnits>(input, state, q);
}

/// A lane's part of the sums of rows g and g + 8 of a group, lane = 4 g + t: sixteenths of each tile's
/// columns go to each t. Accumulator s holds codes * 4^s, so that masks do without shifts. Bound: as
/// RowPair's of gemv.cu. (mma.sync has room for eight tokens; one alone fills it so badly that dp4a is
/// faster.)
struct GroupSums {
  int low[4] = {}, high[4] = {};

  __device__ __forceinline__ void add(uint4 w, int4 first, int4 second) {
    const int b0[4] = {first.x, first.y, first.z, first.w}, b1[4] = {second.x, second.y, second.z, second.w};
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      const uint32_t mask = 0x03030303u << 2 * s;
      low[s] = dot4(w.z & mask, b1[s], dot4(w.x & mask, b0[s], low[s]));
      high[s] = dot4(w.w & mask, b1[s], dot4(w.y & mask, b0[s], high[s]));
    }
  }
  __device__ __forceinline__ void flush(int* sums) {
    const int a = low[0] + (low[1] >> 2) + (low[2] >> 4) + (low[3] >> 6);
    const int b = high[0] + (high[1] >> 2) + (high[2] >> 4) + (high[3] >> 6);
    const int lane = threadIdx.x % kWarp;
    const bool odd = lane % 2 != 0;  // even lanes go on with row g, odd ones with row g + 8
    int sum = (odd ? b : a) + __shfl_xor_sync(0xffffffffu, odd ? a : b, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (lane % 4 < 2) atomicAdd(sums + lane / 4 + (odd ? 8 : 0), sum);  // integers: the order cannot matter
  }
};

/// A group's columns [begin, end) of tiles, added up before they go to the block's sums.
__device__ __forceinline__ void multiply_group(const uint4* tiles, const int4* q, int begin, int end,
                                               int* rows) {
  GroupSums sums;
#pragma unroll 3
  for (int column = begin; column < end; ++column)
    sums.add(tiles[column * kTileVectors], q[column * 8], q[column * 8 + 4]);
  sums.flush(rows);
}

/// state.sums += the block's rows times q. A warp has some columns of tiles, of which it keeps two's q in
/// registers and goes through the groups of the slot.
__device__ __forceinline__ void multiply_slots(const Share& groups, const uint16_t* q, WeightRing& ring,
                                               StepState& state) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int begin = groups.k_tiles * warp / kStepWarps, end = groups.k_tiles * (warp + 1) / kStepWarps;
  const int group_vectors = groups.k_tiles * kTileVectors;
  const auto* my_q = reinterpret_cast<const int4*>(q) + lane % 4;
  for (int first = 0; first < groups.count(); first += groups.fill) {
    const int count = min(groups.fill, groups.count() - first);
    const auto* slot = reinterpret_cast<const uint4*>(await_slot(ring)) + lane;
    if (count == 1) {
      multiply_group(slot, my_q, begin, end, state.sums + first * kTileRows);
      release_slot(ring);
      continue;
    }
#pragma unroll 1
    for (int column = begin; column < end; column += 2) {
      const bool two = column + 1 < end;
      const int4* column_q = my_q + column * 8;
      const int4 q0 = column_q[0], q1 = column_q[4];
      // A missing second column is the first again, times 0: a branch would keep the loads from going ahead.
      const int4 q2 = two ? column_q[8] : int4{}, q3 = two ? column_q[12] : int4{};
      const int second = two ? kTileVectors : 0;
      const uint4* tile = slot + column * kTileVectors;
      int* sums = state.sums + first * kTileRows;
#pragma unroll 2
      for (int g = 0; g < count; ++g, tile += group_vectors, sums += kTileRows) {
        GroupSums group;
        const uint4 w = tile[0], v = tile[second];
        group.add(w, q0, q1);
        group.add(v, q2, q3);
        group.flush(sums);
      }
    }
    release_slot(ring);
  }
}

/// The writing warp's side of multiply_slots.
__device__ __forceinline__ void stream_weights(const void* weights, const Share& groups, WeightRing& ring) {
  const int group_bytes = groups.k_tiles * kTileVectors * static_cast<int>(sizeof(uint4));
  const auto* source = static_cast<const std::byte*>(weights) + int64_t{groups.begin} * group_bytes;
  for (int first = 0; first < groups.count(); first += groups.fill) {
    fill_slot(ring, source + int64_t{first} * group_bytes,
              min(groups.fill, groups.count() - first) * group_bytes);
  }
}

/// Row scales of a thread's outputs, loaded before the input is waited for.
struct OutputScales {
  float first = 0, second = 0;
};
__device__ __forceinline__ OutputScales load_scales(const float* scales, const Share& groups, bool paired) {
  const int thread = threadIdx.x, rows = groups.count() * kTileRows;
  const float* block = scales + int64_t{groups.begin} * kTileRows;
  if (!paired) return {thread < rows ? __ldg(block + thread) : 0.0f, 0.0f};
  if (thread >= rows / 2) return {};
  const int gate = thread / 8 * kTileRows + thread % 8;
  return {__ldg(block + gate), __ldg(block + gate + 8)};
}

/// The thread's product, and its sum back to zero; `factor` is the row's scale by the input's.
__device__ __forceinline__ float take_product(StepState& state, int row, int32_t q_sum, float factor) {
  const float value = __fmul_rn(static_cast<float>(state.sums[row] - q_sum), factor);
  state.sums[row] = 0;
  return value;
}

#endif

}  // namespace bitnet::cuda
