#pragma once

// What the scans of an int8 head (head_top.cu, head_wgmma.cu) share.

#include "kernels/cuda/activation_image.cuh"
#include "kernels/cuda/int8_tiles.cuh"
#include "kernels/cuda/ternary.cuh"

#include <cmath>

namespace bitnet::cuda {

inline constexpr int kBase = 254, kDigit = 127, kLimit = kBase * kDigit + 126;
/// Bytes behind a row of digits: two rows that eight lanes read lie in different banks.
inline constexpr int kSkew = 64;
/// Rows of the image of digits: hi and lo of each token.
inline constexpr int64_t kDigitRows = 2 * kMostTopTokens;
static_assert(kDigitRows == kImageTokens);

/// A hidden state x ~ scale (254 hi + lo), and what its logits' bounds take from it (head_activations.h).
struct SplitState {
  float scale, norm, slack;
  int32_t known;
};

/// The scratch memory, [tokens] of each.
struct HeadParts {
  float* normed;   ///< [padded]
  int8_t* digits;  ///< rows [2][padded + kSkew]: hi, lo; or an image with rows 2 token and 2 token + 1
  SplitState* states;
  float* upper;        ///< [rows in groups]
  float* group_lower;  ///< [groups]: the highest lower end
  float* group_upper;  ///< [groups]
  float* threshold;    ///< that the query's highest logits reach; of many tokens alone, as the probes
  TopCandidates* probes;
};

constexpr int64_t padded_cols(int64_t cols) {
  return (cols + kPad - 1) / kPad * kPad;
}

struct HeadScanArgs {
  HeadTopArgs head;
  HeadParts parts;
  bool image;   ///< what the digits are
  bool probed;  ///< exact logits of a few rows have raised the threshold
};

struct RowBounds {
  float scale, error, norm;
};
__device__ __forceinline__ RowBounds bounds_of(const Int8Copy& copy, int64_t row) {
  return {copy.scale[row], copy.error[row], copy.norm[row]};
}

/// The interval of a logit from its digits' sums, as HeadScan's.
struct Interval {
  float lower, upper;
};
__device__ __forceinline__ Interval interval_of(const RowBounds& row, const SplitState& state, int hi,
                                                int lo) {
  const float joined = fmaf(static_cast<float>(kBase), static_cast<float>(hi), static_cast<float>(lo));
  const float y = joined * (row.scale * state.scale);
  const float bound = row.error * state.norm + row.norm * state.slack;
  const float slack = bound * 1.0001f + fabsf(y) * 0x1p-22f + 1e-30f;
  return {y - slack, y + slack};
}

/// Leaves the bounds of a group's 16 rows and 4 kTiles tokens from `first`; lane (g, t) has rows g and g + 8
/// of tokens 4j + t: hi, lo, hi, lo.
template <int kTiles>
__device__ __forceinline__ void write_bounds(const HeadScanArgs& args, int64_t group,
                                             const SplitState* states, int first, const int* sums) {
  const Int8Copy& copy = args.head.copy;
  const int lane = threadIdx.x % kWarp;
  const int64_t rows = copy.groups * kInt8GroupRows, row = group * kInt8GroupRows + lane / 4;
  const RowBounds bounds[2] = {bounds_of(copy, row), bounds_of(copy, row + 8)};
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    const int token = first + 4 * j + lane % 4;
    const bool exists = token < args.head.tokens;
    float lower = -INFINITY, upper = -INFINITY;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!exists || row + 8 * half >= args.head.head.count) continue;
      const Interval interval =
          interval_of(bounds[half], states[token], sums[4 * j + 2 * half], sums[4 * j + 2 * half + 1]);
      args.parts.upper[token * rows + row + 8 * half] = interval.upper;
      lower = fmaxf(lower, interval.lower);  // leaves a NaN out
      upper = isnan(interval.upper) ? INFINITY : fmaxf(upper, interval.upper);
    }
#pragma unroll
    for (int mask = 4; mask < kWarp; mask *= 2) {
      lower = fmaxf(lower, __shfl_xor_sync(0xffffffffu, lower, mask));
      upper = fmaxf(upper, __shfl_xor_sync(0xffffffffu, upper, mask));
    }
    if (lane >= 4 || !exists) continue;
    args.parts.group_lower[token * copy.groups + group] = lower;
    args.parts.group_upper[token * copy.groups + group] = upper;
  }
}

/// The scan of more than 16 tokens on sm_90, from an image.
void wgmma_head_scan(const HeadScanArgs& args, Stream stream);

}  // namespace bitnet::cuda
