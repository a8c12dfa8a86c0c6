#pragma once

// Attention as kernel_table.h defines it, one number after another: the oracle of ../attention_kernels.h.

#include "bitnet/core/half.h"
#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/scalar/f32x16.h"

#include <cstdint>

namespace bitnet::kernels::scalar {
namespace {

inline float exp_of(float x) {
  return exp(F32x16::broadcast(x)).lane[0];
}

inline float element(const AttentionChunkArgs& a, const void* array, int64_t index) {
  switch (a.kv_type) {
    case DType::kF32:
      return static_cast<const float*>(array)[index];
    case DType::kF16:
      return bitnet::f16_to_f32(static_cast<const uint16_t*>(array)[index]);
    case DType::kI8:
      return static_cast<float>(static_cast<const int8_t*>(array)[index]);
    default:
      __builtin_trap();  // callers check the type (kernel_table.h)
  }
}

inline float score(const AttentionChunkArgs& a, const float* q, int64_t position) {
  float sum = 0;
  for (int64_t d = 0; d < a.head_dim; ++d) {
    const int64_t index = (position / kLanes * a.head_dim + d) * kLanes + position % kLanes;
    sum = __builtin_fmaf(q[d], element(a, a.keys, index), sum);
  }
  return (a.kv_type == DType::kI8 ? sum * a.key_scale[position] : sum) * a.scale;
}

inline void attend(const AttentionChunkArgs& a, int64_t query) {
  const int64_t length = a.lengths[query], stride = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  float* w = a.weights + query * kAttentionChunk;
  float* o = a.out.o + query * a.out.o_stride;
  for (int64_t p = 0; p < length; ++p) w[p] = score(a, a.q + query * a.q_stride, p);
  float max = w[0];
  for (int64_t p = 1; p < length; ++p) max = max > w[p] ? max : w[p];
  F32x16 sum = F32x16::zero();
  for (int64_t p = 0; p < length; ++p) {
    w[p] = exp_of(w[p] - max);
    sum.lane[p % kLanes] += w[p];
    if (a.kv_type == DType::kI8) w[p] *= a.value_scale[p];
  }
  a.out.max[query] = max;
  a.out.sum[query] = sum.reduce_add();
  for (int64_t d = 0; d < stride; ++d) {
    o[d] = 0;
    for (int64_t p = 0; p < length; ++p)
      o[d] = __builtin_fmaf(w[p], element(a, a.values, p * stride + d), o[d]);
  }
}

inline void attention_chunk(const AttentionChunkArgs& a) {
  for (int64_t query = 0; query < a.queries; ++query) attend(a, query);
}

inline void attention_merge(const AttentionMergeArgs& m) {
  for (int64_t row = 0; row < m.rows; ++row) {
    float& max = m.total.max[row];
    float& sum = m.total.sum[row];
    const float larger = max > m.part.max[row] ? max : m.part.max[row];
    const float a = exp_of(max - larger), b = exp_of(m.part.max[row] - larger);
    max = larger;
    sum = __builtin_fmaf(sum, a, m.part.sum[row] * b);
    float* o = m.total.o + row * m.total.o_stride;
    const float* part = m.part.o + row * m.part.o_stride;
    for (int64_t d = 0; d < m.head_dim; ++d) o[d] = __builtin_fmaf(o[d], a, part[d] * b);
  }
}

}  // namespace
}  // namespace bitnet::kernels::scalar
