#pragma once

// The scan of an output head with integer arithmetic (kernel_table.h), written once over a vector type V
// (float_kernels.h) and a policy I of the instruction set. I provides I4Block, load_i4(block): codes of 32
// columns of 16 rows; products(codes, hi, lo, offset) -> V: offset + sum L (128 hi + lo) of each row.

#include "kernels/cpu/float_kernels.h"

namespace bitnet::kernels {

inline constexpr int64_t kI4UnitBlocks = 4, kI4BlockCols = 32, kI4BlockBytes = 256, kI4UnitBytes = 1088;
inline constexpr int64_t kScanGroupRows = 16;
// How far ahead of itself a scan asks for memory, into the second cache: into the first, what one thread of
// Zen 4 can have under way there bounds it (kernels_benchmark, scan/*/tokens:1).
inline constexpr int64_t kPrefetchBytes = 8192;
inline constexpr int kSecondCache = 2;  // as __builtin_prefetch counts

template <class V, class I, int kTokens>
void scan_i4_group(const ScanI4Args& a, int64_t group, int64_t token) {
  const uint8_t* unit = a.weights + group * a.units * kI4UnitBytes;
  V y[kTokens], squares[kTokens];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) y[t] = squares[t] = V::zero();
  for (int64_t block = 0; block < a.units * kI4UnitBlocks; unit += kI4UnitBytes) {
    const auto* multipliers = reinterpret_cast<const int8_t*>(unit + kI4UnitBlocks * kI4BlockBytes);
    __builtin_prefetch(multipliers + kPrefetchBytes, 0, kSecondCache);  // a hint: never a fault
    for (int64_t b = 0; b < kI4UnitBlocks; ++b, ++block) {
      BITNET_UNROLL for (int64_t i = 0; i < kI4BlockBytes; i += 64)
          __builtin_prefetch(unit + b * kI4BlockBytes + kPrefetchBytes + i, 0, kSecondCache);
      const typename I::I4Block codes = I::load_i4(unit + b * kI4BlockBytes);
      const V m = V::from_i8(multipliers + b * kScanGroupRows), square = V::mul(m, m);
      BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
        const int64_t x = (token + t) * a.x_stride + block * kI4BlockCols;
        const int64_t of_block = (token + t) * a.block_stride + block;
        y[t] = V::fma(m, I::products(codes, a.hi + x, a.lo + x, a.offset[of_block]), y[t]);
        squares[t] = V::fma(square, V::broadcast(a.weight[of_block]), squares[t]);
      }
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    const int64_t out = (token + t) * a.y_stride + (group - a.first_group) * kScanGroupRows;
    y[t].store(a.y + out);
    V::sqrt(squares[t]).store(a.bound + out);
  }
}

// Tokens in fours, twos and ones: a group's weights stay in a cache between them.
template <class V, class I>
void scan_i4(const ScanI4Args& a) {
  for (int64_t group = a.first_group; group < a.last_group; ++group) {
    int64_t token = 0;
    for (; token + 4 <= a.tokens; token += 4) scan_i4_group<V, I, 4>(a, group, token);
    if (token + 2 <= a.tokens) {
      scan_i4_group<V, I, 2>(a, group, token);
      token += 2;
    }
    if (token < a.tokens) scan_i4_group<V, I, 1>(a, group, token);
  }
}

template <class V, class I>
constexpr void add_scan_kernels(KernelTable& table) {
  table.scan_i4 = scan_i4<V, I>;
}

}  // namespace bitnet::kernels
