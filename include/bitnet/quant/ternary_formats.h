#pragma once

#include "bitnet/core/dtype.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace bitnet {

/// Reference codecs of the ternary formats: kHfTernary, kI2_S, kTQ1_0, kTQ2_0, kIQ2_BN, kTernary.
/// A ternary matrix is W[n, k] = trit[n, k] * scale[n] with trit in {-1, 0, +1}.

/// One ternary tensor's bytes as they lie in a file.
struct TernaryBytes {
  DType dtype;
  int64_t rows = 0;
  int64_t cols = 0;
  std::span<const std::byte> bytes;
};

/// Decodes row n into trits[0..cols) and returns the scale that the format holds for it:
///   kI2_S    the f32 at bytes cols*rows/4
///   kIQ2_BN  the f32 before the row
///   kTQ1_0, kTQ2_0  the common f16 scale of the row's non-zero blocks (0 if all blocks are zero)
///   kHfTernary, kTernary  1 (their scale lies in another tensor)
/// Throws kCorruptData on code 3 where the format has no meaning for it, a NaN, infinite or negative scale,
/// or a short span; kUnsupported if the blocks of a TQ row have different scales (not a BitNet matrix).
/// Thread-safe.
[[nodiscard]] float decode_ternary_row(const TernaryBytes& matrix, int64_t row, std::span<int8_t> trits);

/// Encodes rows [first_row, first_row + trits.size() / cols) of a [rows, cols] matrix into `out`, the bytes
/// of the whole tensor. `scale` is stored where the format has a place for it (kI2_S: the tail; kTQ*: every
/// block, as f16, zero blocks too; kIQ2_BN is read only: kUnsupported). kHfTernary interleaves rows of four
/// quarters, so rows are set bit by bit in place: other rows' bits stay. Rows may come in any order and,
/// where they share no byte, from any thread; the tail of kI2_S is written with row 0. Throws
/// kInvalidArgument for a value that is no trit, a scale that is negative or not finite, and sizes that
/// disagree; kUnsupported for a scale that f16 cannot hold in kTQ*.
void encode_ternary_rows(DType dtype, int64_t rows, int64_t cols, int64_t first_row,
                         std::span<const int8_t> trits, float scale, std::span<std::byte> out);

/// s = mean |w| over all elements (clamped to at least 1e-5), summed in double. Throws kInvalidArgument
/// for no weights, NaN and infinity.   Source: arXiv:2402.17764, eq. 3.
[[nodiscard]] float absmean(std::span<const float> weights);

/// trits[i] = clamp(round_half_even(w[i] / s), -1, 1), computed as round(w[i] * (1/s)) like the reference
/// implementation (transformers integrations/bitnet.py, WeightQuant). s is finite and positive, no weight is
/// NaN (absmean() has seen to both).
void ternarize(std::span<const float> weights, float s, std::span<int8_t> trits);

}  // namespace bitnet
