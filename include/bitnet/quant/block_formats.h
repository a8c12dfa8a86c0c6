#pragma once

#include "bitnet/core/dtype.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace bitnet {

/// Reference codecs of the dense formats kF32, kF16, kBF16, kF64, kQ8_0, kQ6_K, kQ4_0: normative, slow,
/// readable. A row is `count` consecutive weights; count must be a multiple of the block.

/// out[i] = value of weight i. Throws kDTypeMismatch for ternary and integer types, kInvalidArgument if a
/// span is too short. Exact: every intermediate product fits binary32 as the format defines it.
void dequantize_row(DType dtype, std::span<const std::byte> row, std::span<float> out);

/// The inverse, with the arithmetic of the formats' own tools (rounding to nearest; see docs/FORMATS.md).
/// Throws as above, and kUnsupported for values that the format cannot hold: beyond 65504 in kF16; in block
/// types NaN, infinity and blocks whose scale would be beyond 65504.
void quantize_row(DType dtype, std::span<const float> row, std::span<std::byte> out);

}  // namespace bitnet
