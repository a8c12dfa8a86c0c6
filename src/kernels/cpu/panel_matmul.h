#pragma once

// The blocking of a ternary product with many tokens, written once. One unpacking serves many tokens: a slice
// of the columns of a few groups (a panel) is unpacked to codes 0..2 in a buffer that stays in a cache, and
// multiplied with all tokens of a batch, whose activations stay in the L2 cache. Sums pass from slice to
// slice through a buffer of int32: |sum of code * q| <= 2 * 128 * cols < 2^31 for cols < 2^23.
//
// A policy P of an instruction set provides
//   kPanelGroups                 the most groups of a panel
//   kSliceCols                   the most columns of a slice, a multiple of kUnitCols
//   slice_cols(tokens)           the same for a batch of so many tokens
//   kUnitCols                    codes are padded with zeros to a multiple of it (a multiple of 16)
//   kBatchTokens, kBatchBytes    the most tokens of a batch, and bytes of their activations
//   unpack(block, codes)         256 codes of a 64-byte block (quant/packed_ternary.h), in the order it likes
//   unpack_unit(unit, codes)     1536 codes of a 320-byte unit of t53x16, as those of six blocks; kTight only
//   multiply(product)            of PanelProduct below
//   store_rows(args, token, group, sums)   y of a group's 16 rows from sums of code * q
//   release()                    called at the end

#include "kernels/cpu/tight_units.h"
#include "kernels/kernel_table.h"

#include <cstdint>

namespace bitnet::kernels {

/// sums[t][r] = (first ? 0 : sums[t][r]) + sum_k code[r, k] * q[t, k] over the `cols` columns of a slice (a
/// multiple of 16), for the rows of `groups` groups of a panel.
struct PanelProduct {
  const int8_t* q;
  int64_t q_stride, tokens, cols;
  const uint8_t* codes;
  int64_t groups, group_bytes;  ///< from the codes of one group to those of the next
  int32_t* sums;
  int64_t sums_stride;
  bool first;
};

template <class P>
struct PanelScratch {
  alignas(64) uint8_t codes[P::kPanelGroups][P::kSliceCols * 16];
  alignas(64) int32_t sums[P::kBatchTokens][P::kPanelGroups * 16];
};

// Unpacks columns [first, first + cols) of a group; kTight: units until they end, then blocks.
template <class P, bool kTight>
void unpack_slice(const TernaryMatmulArgs& a, int64_t group, int64_t first, int64_t cols, uint8_t* codes) {
  const int64_t units = kTight ? tight_units(a) : 0, unit_cols = units * kTightUnitCols;
  const uint8_t* base = a.weights + group * (kTight ? tight_group_bytes(a) : 4 * a.padded_cols);
  const int64_t last = first + cols;
  int64_t col = first;
  if constexpr (kTight) {
    for (; col < last && col < unit_cols; col += kTightUnitCols, codes += 16 * kTightUnitCols)
      P::unpack_unit(base + col / kTightUnitCols * kTightUnitBytes, codes);
  }
  const uint8_t* blocks = base + units * kTightUnitBytes - 4 * unit_cols;
  for (; col < last; col += 16, codes += 256) P::unpack(blocks + 4 * col, codes);
  for (; (col - first) % P::kUnitCols != 0; col += 16, codes += 256) __builtin_memset(codes, 0, 256);
}

// Groups [group, group + groups) and tokens [token, token + count), in slices of nearly equal size.
template <class P, bool kTight>
void multiply_panel(const TernaryMatmulArgs& a, int64_t token, int64_t count, int64_t group, int64_t groups,
                    PanelScratch<P>& scratch) {
  // Slices begin where a unit does.
  constexpr int64_t kStep = kTight ? P::kUnitCols / 32 * kTightUnitCols : P::kUnitCols;
  static_assert(kStep % P::kUnitCols == 0);
  const int64_t steps = (a.padded_cols + kStep - 1) / kStep;
  const int64_t slice_steps = P::slice_cols(count) / kStep;
  const int64_t slices = (steps + slice_steps - 1) / slice_steps;
  for (int64_t i = 0; i < slices; ++i) {
    const int64_t first = steps * i / slices * kStep, end = steps * (i + 1) / slices * kStep;
    const int64_t cols = (end < a.padded_cols ? end : a.padded_cols) - first;
    for (int64_t g = 0; g < groups; ++g) unpack_slice<P, kTight>(a, group + g, first, cols, scratch.codes[g]);
    P::multiply({.q = a.q + token * a.q_stride + first,
                 .q_stride = a.q_stride,
                 .tokens = count,
                 .cols = cols,
                 .codes = scratch.codes[0],
                 .groups = groups,
                 .group_bytes = sizeof scratch.codes[0],
                 .sums = scratch.sums[0],
                 .sums_stride = P::kPanelGroups * 16,
                 .first = first == 0});
  }
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t g = 0; g < groups; ++g) P::store_rows(a, token + t, group + g, scratch.sums[t] + 16 * g);
  }
}

// Batches of nearly equal size, each a multiple of 32 tokens except the last.
template <class P, bool kTight = false>
void panel_matmul(const TernaryMatmulArgs& a) {
  constexpr int64_t kUnit = 32;
  PanelScratch<P> scratch;
  int64_t most = P::kBatchBytes / a.padded_cols / kUnit * kUnit;
  if (most < kUnit) most = kUnit;
  if (most > P::kBatchTokens) most = P::kBatchTokens;
  const int64_t batches = (a.tokens + most - 1) / most;
  const int64_t step = ((a.tokens + batches - 1) / batches + kUnit - 1) / kUnit * kUnit;
  for (int64_t token = 0; token < a.tokens; token += step) {
    const int64_t count = a.tokens - token < step ? a.tokens - token : step;
    for (int64_t group = a.first_group; group < a.last_group; group += P::kPanelGroups) {
      const int64_t left = a.last_group - group;
      multiply_panel<P, kTight>(a, token, count, group, left < P::kPanelGroups ? left : P::kPanelGroups,
                                scratch);
    }
  }
  P::release();
}

}  // namespace bitnet::kernels
