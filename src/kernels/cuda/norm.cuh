#pragma once

// RMS norms and int8 rounding of one token's row by one block, the arithmetic of kernel_table.h. The sum of
// squares is an f64 sum in another order: its error of 1e-16 changes the f32 factor once in some 10^8 rows.

#include "kernels/cuda/device.cuh"
#include "kernels/cuda_table.h"

namespace bitnet::cuda {

template <int kThreads>
struct RowReduction {
  double squares[2][kThreads / kWarp];
  uint32_t magnitude[kThreads / kWarp];
  int32_t sum[kThreads / kWarp];
};

/// The sum of `value` over the block, in a fixed order, for all threads.
template <int kThreads>
__device__ double block_sum(double value, double* warps) {
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  constexpr int kChains = 4;  // additions that do not wait for one another
  double totals[kChains] = {};
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) totals[w % kChains] += warps[w];
  return (totals[0] + totals[1]) + (totals[2] + totals[3]);
}

__device__ __forceinline__ double add_squares(double sum, float4 v) {
  sum = fma(static_cast<double>(v.x), static_cast<double>(v.x), sum);
  sum = fma(static_cast<double>(v.y), static_cast<double>(v.y), sum);
  sum = fma(static_cast<double>(v.z), static_cast<double>(v.z), sum);
  return fma(static_cast<double>(v.w), static_cast<double>(v.w), sum);
}

/// 1 / sqrt(mean of squares + eps); its f64 roundings are as harmless as the sum's order.
__device__ __forceinline__ float norm_factor(double squares, double inverse_cols, float eps) {
  return static_cast<float>(rsqrt(fma(squares, inverse_cols, static_cast<double>(eps))));
}

__device__ __forceinline__ float4 apply_norm(float4 v, float factor, float4 weight) {
  return make_float4(__fmul_rn(__fmul_rn(v.x, factor), weight.x), __fmul_rn(__fmul_rn(v.y, factor), weight.y),
                     __fmul_rn(__fmul_rn(v.z, factor), weight.z),
                     __fmul_rn(__fmul_rn(v.w, factor), weight.w));
}

/// row = norms(x), x of vectors * 4 floats with zeros behind cols; first_weight are norms.first's, in global
/// or shared memory. Every thread touches the same places of `row` here and in quantize_row, so no barrier
/// stands between them.
template <int kThreads>
__device__ void normalize_row(const float* x, int vectors, int64_t cols, const Norms& norms,
                              const float4* first_weight, float4* row, RowReduction<kThreads>& reduction) {
  const float4* x4 = reinterpret_cast<const float4*>(x);
  const double inverse_cols = 1.0 / static_cast<double>(cols);
  const float4* const weights[2] = {first_weight, reinterpret_cast<const float4*>(norms.second)};
  const float eps[2] = {norms.first_eps, norms.second_eps};
  const bool any = weights[0] != nullptr || weights[1] != nullptr;
  double squares = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < vectors; i += kThreads) {
    const float4 v = __ldcg(x4 + i);  // written by the kernel in front: never from a stale L1 line
    row[i] = v;
    if (any) squares = add_squares(squares, v);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    if (weights[n] == nullptr) continue;
    const float factor =
        norm_factor(block_sum<kThreads>(squares, reduction.squares[n]), inverse_cols, eps[n]);
    squares = 0;
#pragma unroll 4
    for (int i = threadIdx.x; i < vectors; i += kThreads) {
      row[i] = apply_norm(row[i], factor, weights[n][i]);
      if (n == 0 && weights[1] != nullptr) squares = add_squares(squares, row[i]);
    }
  }
}

__device__ __forceinline__ uint32_t magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7fffffffu;
}

__device__ __forceinline__ uint32_t quantize_four(float4 v, float scale) {
  const int x = __float2int_rn(__fmul_rn(v.x, scale)), y = __float2int_rn(__fmul_rn(v.y, scale));
  const int z = __float2int_rn(__fmul_rn(v.z, scale)), w = __float2int_rn(__fmul_rn(v.w, scale));
  return (static_cast<uint32_t>(x) & 0xffu) | (static_cast<uint32_t>(y) & 0xffu) << 8 |
         (static_cast<uint32_t>(z) & 0xffu) << 16 | static_cast<uint32_t>(w) << 24;
}

struct RowScale {
  float scale;
  int32_t sum;
};

__device__ __forceinline__ uint32_t magnitude_of(float4 v) {
  return max(max(magnitude_bits(v.x), magnitude_bits(v.y)), max(magnitude_bits(v.z), magnitude_bits(v.w)));
}
__device__ __forceinline__ bool is_finite(uint32_t magnitude) {
  return magnitude < 0x7f800000u;
}

/// The largest of the block's, and the sum, for all threads.
template <int kThreads>
__device__ __forceinline__ uint32_t block_magnitude(uint32_t magnitude, RowReduction<kThreads>& reduction) {
  magnitude = __reduce_max_sync(0xffffffffu, magnitude);
  if (threadIdx.x % kWarp == 0) reduction.magnitude[threadIdx.x / kWarp] = magnitude;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) magnitude = max(magnitude, reduction.magnitude[w]);
  return magnitude;
}
template <int kThreads>
__device__ __forceinline__ int32_t block_row_sum(int32_t sum, RowReduction<kThreads>& reduction) {
  sum = __reduce_add_sync(0xffffffffu, sum);
  if (threadIdx.x % kWarp == 0) reduction.sum[threadIdx.x / kWarp] = sum;
  __syncthreads();
  sum = 0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) sum += reduction.sum[w];
  return sum;
}

/// write(i, int8 of row[i]); after the last barrier inside, what was written is visible to the block.
template <int kThreads, class Write>
__device__ RowScale quantize_row(const float4* row, int vectors, RowReduction<kThreads>& reduction,
                                 Write&& write) {
  uint32_t magnitude = magnitude_bits(1e-5f);
#pragma unroll 4
  for (int i = threadIdx.x; i < vectors; i += kThreads) magnitude = max(magnitude, magnitude_of(row[i]));
  magnitude = block_magnitude<kThreads>(magnitude, reduction);
  const float scale = __fdiv_rn(127.0f, __uint_as_float(magnitude));
  const bool finite = is_finite(magnitude);
  int32_t sum = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < vectors; i += kThreads) {
    const uint32_t four = finite ? quantize_four(row[i], scale) : 0u;
    sum = __dp4a(static_cast<int>(four), 0x01010101, sum);
    write(i, four);
  }
  return {scale, block_row_sum<kThreads>(sum, reduction)};
}

}  // namespace bitnet::cuda
