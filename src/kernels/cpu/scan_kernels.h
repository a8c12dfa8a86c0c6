#pragma once

// Scans of an output head with integer arithmetic (kernel_table.h), written once over a vector type V
// (float_kernels.h) and a policy I of the instruction set. I provides
//   Q6Unit, load_q6(unit): codes of 16 columns; products(codes, hi, lo, offset) -> V: offset + sum c (128 hi
//   + lo) of each row; I8Sum: 16 int32 row sums; add(sum, block of 64 bytes, four activations); rows(sum, sum
//   of activations) -> V.

#include "kernels/cpu/float_kernels.h"

namespace bitnet::kernels {

inline constexpr int64_t kQ6Units = 16, kQ6UnitBytes = 192, kQ6BlockCols = 256, kQ6BlockBytes = 3328;
inline constexpr int64_t kScanGroupRows = 16;
inline constexpr float kScanBase = 254.0f;
// How far ahead of itself a scan asks for memory (kernels_benchmark, scan/*/tokens:1).
inline constexpr int64_t kPrefetchBytes = 4096;

template <class V>
V magnitude(V v) {
  return V::max(v, V::sub(V::zero(), v));
}

// Block `block` of a group: adds d Y to y and |d| B to bound (kernel_table.h).
template <class V, class I, int kTokens>
inline __attribute__((always_inline)) void add_q6_k_block(const ScanQ6KArgs& a, const uint8_t* group,
                                                          int64_t block, int64_t token, V (&y)[kTokens],
                                                          V (&bound)[kTokens]) {
  const uint8_t* unit = group + block * kQ6BlockBytes;
  const auto* scales = reinterpret_cast<const int8_t*>(unit + kQ6Units * kQ6UnitBytes);
  V sum[kTokens], slack[kTokens];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) sum[t] = slack[t] = V::zero();
  for (int64_t j = block * kQ6Units; j < (block + 1) * kQ6Units; ++j, unit += kQ6UnitBytes) {
    // A hint: never a fault.
    BITNET_UNROLL for (int64_t i = 0; i < kQ6UnitBytes; i += 64)
        __builtin_prefetch(unit + kPrefetchBytes + i);
    const typename I::Q6Unit codes = I::load_q6(unit);
    const V scale = V::from_i8(scales + j % kQ6Units * kScanGroupRows), size = magnitude(scale);
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
      const int64_t x = (token + t) * a.x_stride + j * kLanes, of_unit = (token + t) * a.sub_block_stride + j;
      sum[t] = V::fma(scale, I::products(codes, a.hi + x, a.lo + x, a.offset[of_unit]), sum[t]);
      slack[t] = V::fma(size, V::broadcast(a.weight[of_unit]), slack[t]);
    }
  }
  const auto* steps = reinterpret_cast<const uint16_t*>(group + a.cols / kQ6BlockCols * kQ6BlockBytes);
  const V step = V::load_f16(steps + block * kScanGroupRows), size = magnitude(step);
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    y[t] = V::fma(step, sum[t], y[t]);
    bound[t] = V::fma(size, slack[t], bound[t]);
  }
}

template <class V, class I, int kTokens>
void scan_q6_k_group(const ScanQ6KArgs& a, int64_t group, int64_t token) {
  V y[kTokens], bound[kTokens];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) y[t] = bound[t] = V::zero();
  for (int64_t block = 0; block < a.cols / kQ6BlockCols; ++block)
    add_q6_k_block<V, I, kTokens>(a, a.weights + group * a.group_bytes, block, token, y, bound);
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    const int64_t out = (token + t) * a.y_stride + (group - a.first_group) * kScanGroupRows;
    y[t].store(a.y + out);
    bound[t].store(a.bound + out);
  }
}

// body(token, count constant) for tokens in fours, twos and ones: a group's weights stay in a cache between
// them.
template <class Body>
inline __attribute__((always_inline)) void for_scan_tokens(int64_t tokens, Body body) {
  int64_t token = 0;
  for (; token + 4 <= tokens; token += 4) body(token, Count<4>{});
  if (token + 2 <= tokens) {
    body(token, Count<2>{});
    token += 2;
  }
  if (token < tokens) body(token, Count<1>{});
}

template <class V, class I>
void scan_q6_k(const ScanQ6KArgs& a) {
  for (int64_t group = a.first_group; group < a.last_group; ++group) {
    for_scan_tokens(
        a.tokens, [&](int64_t token, auto count) __attribute__((always_inline)) {
          scan_q6_k_group<V, I, decltype(count)::value>(a, group, token);
        });
  }
}

// kTokens tokens of one group. Even and odd steps have sums of their own, because a chain of dependent
// additions would be slower than memory.
template <class V, class I, int kTokens>
void scan_i8_group(const ScanI8Args& a, int64_t group, int64_t token) {
  using Sum = typename I::I8Sum;
  constexpr int kChains = kTokens == 1 ? 4 : 2;
  const uint8_t* w = a.weights + group * kScanGroupRows * a.padded_cols;
  const int8_t* hi = a.hi + token * a.q_stride;
  const int8_t* lo = a.lo + token * a.q_stride;
  Sum sums[kTokens][2][kChains];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int c = 0; c < kChains; ++c) I::clear(sums[t][0][c]), I::clear(sums[t][1][c]);
  }
  const auto step = [&](int64_t k, int c) __attribute__((always_inline)) {
    const auto block = I::load_i8(w + k * kScanGroupRows);
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
      I::add(sums[t][0][c], block, hi + t * a.q_stride + k);
      I::add(sums[t][1][c], block, lo + t * a.q_stride + k);
    }
  };
  int64_t k = 0;
  for (; k + 4 * kChains <= a.padded_cols; k += 4 * kChains) {
    BITNET_UNROLL for (int c = 0; c < kChains; ++c) {
      __builtin_prefetch(w + (k + 4 * c) * kScanGroupRows + kPrefetchBytes);
      step(k + 4 * c, c);
    }
  }
  for (; k < a.padded_cols; k += 4) step(k, 0);
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int c = 1; c < kChains; ++c) {
      I::merge(sums[t][0][0], sums[t][0][c]);
      I::merge(sums[t][1][0], sums[t][1][c]);
    }
    const V h = I::rows(sums[t][0][0], a.hi_sum[token + t]), l = I::rows(sums[t][1][0], a.lo_sum[token + t]);
    V::fma(V::broadcast(kScanBase), h, l)
        .store(a.y + (token + t) * a.y_stride + (group - a.first_group) * kScanGroupRows);
  }
}

template <class V, class I>
void scan_i8(const ScanI8Args& a) {
  for (int64_t group = a.first_group; group < a.last_group; ++group) {
    for_scan_tokens(
        a.tokens, [&](int64_t token, auto count) __attribute__((always_inline)) {
          scan_i8_group<V, I, decltype(count)::value>(a, group, token);
        });
  }
}

template <class V, class I>
constexpr void add_scan_kernels(KernelTable& table) {
  table.scan_q6_k = scan_q6_k<V, I>;
  table.scan_i8 = scan_i8<V, I>;
}

}  // namespace bitnet::kernels
