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
  if (a.kv_type == DType::kF16) return bitnet::f16_to_f32(static_cast<const uint16_t*>(array)[index]);
  return static_cast<const float*>(array)[index];
}

inline float score(const AttentionChunkArgs& a, int64_t query, int64_t position) {
  const float* q = a.q + query * a.q_stride;
  float sum = 0;
  for (int64_t d = 0; d < a.head_dim; ++d) {
    const int64_t index = (position / kLanes * a.head_dim + d) * kLanes + position % kLanes;
    sum = __builtin_fmaf(q[d], element(a, a.keys, index), sum);
  }
  return sum * a.scale;
}

inline float score_i8(const AttentionChunkArgs& a, int64_t query, int64_t position) {
  const int64_t block_bytes = (a.head_dim + 3) / 4 * 4 * kLanes;
  const int8_t* q = a.q8 + query * a.q_stride;
  const int8_t* block = static_cast<const int8_t*>(a.keys) + position / kLanes * block_bytes;
  int32_t sum = 0;
  for (int64_t d = 0; d < a.head_dim; ++d)
    sum += q[d] * block[d / 4 * 4 * kLanes + position % kLanes * 4 + d % 4];
  return static_cast<float>(sum) * (a.key_scale[position] * (a.q_scale[query] * a.scale));
}

inline void sum_values(const AttentionChunkArgs& a, const float* w, int64_t length, float* o) {
  const int64_t stride = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  for (int64_t d = 0; d < stride; ++d) {
    o[d] = 0;
    for (int64_t p = 0; p < length; ++p)
      o[d] = __builtin_fmaf(w[p], element(a, a.values, p * stride + d), o[d]);
  }
}

inline void sum_values_i8(const AttentionChunkArgs& a, float* w, int64_t length, float* o) {
  const int64_t stride = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  const auto* values = static_cast<const int8_t*>(a.values);
  F32x16 magnitude = F32x16::zero();
  for (int64_t p = 0; p < length; ++p) {
    w[p] *= a.value_scale[p];
    magnitude = F32x16::max_magnitude(magnitude, F32x16::broadcast(w[p]));
  }
  const float largest = magnitude.lane[0], factor = kAttentionWeightMax / largest;
  const bool usable = largest > 0 && largest <= 0x1.fffffep+127f;
  for (int64_t d = 0; d < stride; ++d) {
    int32_t sum = 0;
    for (int64_t p = 0; usable && p < length; ++p) {
      const auto weight = static_cast<int32_t>(w[p] * factor + kRoundMagic - kRoundMagic);
      sum += weight * values[(p / 4 * stride + d) * 4 + p % 4];
    }
    o[d] = static_cast<float>(sum) * (largest / kAttentionWeightMax);
  }
}

inline void attend(const AttentionChunkArgs& a, int64_t query) {
  const bool i8 = a.kv_type == DType::kI8;
  const int64_t length = a.lengths[query];
  float* w = a.weights + query * kAttentionChunk;
  float* o = a.out.o + query * a.out.o_stride;
  for (int64_t p = 0; p < length; ++p) w[p] = i8 ? score_i8(a, query, p) : score(a, query, p);
  float max = w[0];
  for (int64_t p = 1; p < length; ++p) max = max > w[p] ? max : w[p];
  F32x16 sum = F32x16::zero();
  for (int64_t p = 0; p < length; ++p) {
    w[p] = exp_of(w[p] - max);
    sum.lane[p % kLanes] += w[p];
  }
  a.out.max[query] = max;
  a.out.sum[query] = sum.reduce_add();
  i8 ? sum_values_i8(a, w, length, o) : sum_values(a, w, length, o);
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
