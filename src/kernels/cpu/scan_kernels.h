#pragma once

// Scans of an output head with integer arithmetic (kernel_table.h), written once over a vector type V
// (float_kernels.h) and a policy I of the instruction set. I provides
//   Q6Sum, Q6Half, half(unit, h) -> weights s c of half a block, add(sum, half, x), lanes(sum) -> V;
//   I8Sum: 16 int32 row sums; add(sum, block of 64 bytes, four activations); rows(sum, sum of activations) ->
//   V.

#include "kernels/cpu/float_kernels.h"

namespace bitnet::kernels {

inline constexpr int64_t kQ6BlockCols = 256, kQ6BlockBytes = 210, kQ6Scales = 192, kQ6Scale = 208;
inline constexpr int64_t kScanGroupRows = 16, kScanBlockBytes = 64;
inline constexpr float kScanBase = 254.0f;
// How far ahead of itself a scan asks for memory (kernels_benchmark, scan/*/tokens:1).
inline constexpr int64_t kPrefetchBytes = 4096;

template <class V, class I, int kTokens>
void scan_q6_k_row(const ScanQ6KArgs& a, int64_t row, int64_t token) {
  const uint8_t* w = a.weights + row * a.row_bytes;
  V y[kTokens], bound[kTokens];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) y[t] = bound[t] = V::zero();
  for (int64_t col = 0; col < a.cols; col += kQ6BlockCols, w += kQ6BlockBytes) {
    // A hint: never a fault.
    BITNET_UNROLL for (int64_t i = 0; i < kQ6BlockBytes; i += 64) __builtin_prefetch(w + kPrefetchBytes + i);
    typename I::Q6Sum sum[kTokens];
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) I::clear(sum[t]);
    BITNET_UNROLL for (int h = 0; h < 2; ++h) {
      const typename I::Q6Half half = I::half(w, h);
      BITNET_UNROLL for (int t = 0; t < kTokens; ++t)
          I::add(sum[t], half, a.x + (token + t) * a.x_stride + col + 128 * h);
    }
    const V scale = V::from_i8(reinterpret_cast<const int8_t*>(w + kQ6Scales));
    const V d = V::broadcast(V::f16_to_f32(static_cast<uint16_t>(w[kQ6Scale] | (w[kQ6Scale + 1] << 8))));
    const V step = V::mul(d, scale), magnitude = V::max(step, V::sub(V::zero(), step));
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
      const int64_t sub_block = (token + t) * a.sub_block_stride + col / kLanes;
      y[t] = V::fma(d, V::fma(scale, V::load(a.offset + sub_block), I::lanes(sum[t])), y[t]);
      bound[t] = V::fma(magnitude, V::load(a.weight + sub_block), bound[t]);
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    const int64_t out = (token + t) * a.y_stride + row - a.first_row;
    a.y[out] = y[t].reduce_add();
    a.bound[out] = bound[t].reduce_add();
  }
}

// Rows in pieces that an L2 cache holds, because several tokens' activations fill an L1 cache: four tokens
// take a whole piece before the next four do (kernels_benchmark, scan/q6_k/*/tokens:8).
template <class V, class I, int kTokens>
void scan_q6_k_rows(const ScanQ6KArgs& a, int64_t first, int64_t last, int64_t token) {
  for (int64_t row = first; row < last; ++row) scan_q6_k_row<V, I, kTokens>(a, row, token);
}

template <class V, class I>
void scan_q6_k(const ScanQ6KArgs& a) {
  constexpr int64_t kRows = 64;
  for (int64_t first = a.first_row; first < a.last_row; first += kRows) {
    const int64_t last = a.last_row - first < kRows ? a.last_row : first + kRows;
    int64_t token = 0;
    for (; token + 4 <= a.tokens; token += 4) scan_q6_k_rows<V, I, 4>(a, first, last, token);
    if (token + 2 <= a.tokens) {
      scan_q6_k_rows<V, I, 2>(a, first, last, token);
      token += 2;
    }
    if (token < a.tokens) scan_q6_k_rows<V, I, 1>(a, first, last, token);
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
    int64_t token = 0;
    for (; token + 4 <= a.tokens; token += 4) scan_i8_group<V, I, 4>(a, group, token);
    if (token + 2 <= a.tokens) {
      scan_i8_group<V, I, 2>(a, group, token);
      token += 2;
    }
    if (token < a.tokens) scan_i8_group<V, I, 1>(a, group, token);
  }
}

template <class V, class I>
constexpr void add_scan_kernels(KernelTable& table) {
  table.scan_q6_k = scan_q6_k<V, I>;
  table.scan_i8 = scan_i8<V, I>;
}

}  // namespace bitnet::kernels
