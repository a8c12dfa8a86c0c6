#pragma once

// Attention of one query head in two passes over the cache: scores and softmax, then values. See
// float_kernels.h.

#include "kernels/cpu/float_kernels.h"

namespace bitnet::kernels {

template <class V>
V load_kv(const float* p) {
  return V::load(p);
}
template <class V>
V load_kv(const uint16_t* p) {
  return V::load_f16(p);
}
template <class V, class T>
V load_kv_part(const T* p, int64_t n) {
  alignas(64) T buffer[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return load_kv<V>(buffer);
}

// kKeys scores at a time, so that their chains of fma overlap.
template <class V, class T, int kKeys>
void score_keys(const AttentionArgs& a, int64_t position) {
  const T* k = static_cast<const T*>(a.k) + position * a.kv_stride;
  V sum[kKeys];
  BITNET_UNROLL for (int j = 0; j < kKeys; ++j) sum[j] = V::zero();
  int64_t i = 0;
  for (; i + kLanes <= a.head_dim; i += kLanes) {
    const V q = V::load(a.q + i);
    BITNET_UNROLL for (int j = 0; j < kKeys; ++j) sum[j] =
        V::fma(q, load_kv<V>(k + j * a.kv_stride + i), sum[j]);
  }
  if (i < a.head_dim) {
    const V q = V::load(a.q + i);
    BITNET_UNROLL for (int j = 0; j < kKeys; ++j) sum[j] =
        V::fma(q, load_kv_part<V>(k + j * a.kv_stride + i, a.head_dim - i), sum[j]);
  }
  BITNET_UNROLL for (int j = 0; j < kKeys; ++j) a.scores[position + j] = sum[j].reduce_add() * a.scale;
}

// Turns scores into e^(score - max) in place, 0 beyond `length`, and returns their sum.
template <class V>
float exponentials(const AttentionArgs& a) {
  const int64_t padded = (a.length + kLanes - 1) / kLanes * kLanes;
  for (int64_t p = a.length; p < padded; ++p) a.scores[p] = -__builtin_inff();
  V maxima = V::load(a.scores);
  for (int64_t p = kLanes; p < padded; p += kLanes) maxima = V::max(maxima, V::load(a.scores + p));
  alignas(64) float lanes[kLanes];
  maxima.store(lanes);
  float maximum = lanes[0];
  for (int i = 1; i < kLanes; ++i) maximum = maximum > lanes[i] ? maximum : lanes[i];
  V sum = V::zero();
  for (int64_t p = 0; p < padded; p += kLanes) {
    const V weight = exp(V::sub(V::load(a.scores + p), V::broadcast(maximum)));
    weight.store(a.scores + p);
    sum = V::add(sum, weight);
  }
  return sum.reduce_add();
}

// kChunks * 16 output dimensions over all positions.
template <class V, class T, int kChunks>
void sum_values(const AttentionArgs& a, int64_t dim, float inverse) {
  const T* v = static_cast<const T*>(a.v) + dim;
  V sum[kChunks];
  BITNET_UNROLL for (int c = 0; c < kChunks; ++c) sum[c] = V::zero();
  for (int64_t p = 0; p < a.length; ++p, v += a.kv_stride) {
    const V weight = V::broadcast(a.scores[p]);
    BITNET_UNROLL for (int c = 0; c < kChunks; ++c) sum[c] =
        V::fma(weight, load_kv<V>(v + c * kLanes), sum[c]);
  }
  BITNET_UNROLL for (int c = 0; c < kChunks; ++c) V::mul(sum[c], V::broadcast(inverse))
      .store(a.out + dim + c * kLanes);
}

template <class V, class T>
void sum_value_tail(const AttentionArgs& a, int64_t dim, float inverse) {
  const T* v = static_cast<const T*>(a.v) + dim;
  const int64_t n = a.head_dim - dim;
  V sum = V::zero();
  for (int64_t p = 0; p < a.length; ++p, v += a.kv_stride)
    sum = V::fma(V::broadcast(a.scores[p]), load_kv_part<V>(v, n), sum);
  store_part(V::mul(sum, V::broadcast(inverse)), a.out + dim, n);
}

template <class V, class T>
void attention_over(const AttentionArgs& a) {
  int64_t p = 0;
  for (; p + V::kKeys <= a.length; p += V::kKeys) score_keys<V, T, V::kKeys>(a, p);
  for (; p < a.length; ++p) score_keys<V, T, 1>(a, p);
  const float inverse = 1.0f / exponentials<V>(a);
  int64_t dim = 0;
  for (; dim + V::kValueChunks * kLanes <= a.head_dim; dim += V::kValueChunks * kLanes)
    sum_values<V, T, V::kValueChunks>(a, dim, inverse);
  for (; dim + kLanes <= a.head_dim; dim += kLanes) sum_values<V, T, 1>(a, dim, inverse);
  if (dim < a.head_dim) sum_value_tail<V, T>(a, dim, inverse);
}

template <class V>
void attention(const AttentionArgs& a) {
  if (a.kv_type == DType::kF16) return attention_over<V, uint16_t>(a);
  attention_over<V, float>(a);
}

}  // namespace bitnet::kernels
