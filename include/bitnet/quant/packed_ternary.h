#pragma once

#include "bitnet/core/memory.h"

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// The resident layout "t2x16": a ternary matrix [rows, cols] as the kernels read it, 2 bits a weight.
///
/// Rows are taken in groups of 16, columns in blocks of 16; both are padded with code 1 (weight 0). A block
/// is 64 bytes: byte 4*r + j holds, in bits 2s and 2s+1 (s = 0..3), code(row 16g + r, column 16b + 4s + j),
/// with code = trit + 1. Masking a block with 0x03 << 2s thus leaves 16 rows x 4 consecutive columns, scaled
/// by 4^s, ready for a 4-way int8 dot product against 4 broadcast activations: no shift is needed
/// (docs/NUMERICS.md). The blocks of a group follow one another; groups follow one another.
class PackedTernary {
 public:
  static constexpr int kGroupRows = 16;
  static constexpr int kBlockCols = 16;
  static constexpr int kBlockBytes = 64;

  PackedTernary() = default;
  /// The blocks of a group are unspecified until its set_group(); memory is not touched before.
  PackedTernary(int64_t rows, int64_t cols);

  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t cols() const { return cols_; }
  [[nodiscard]] int64_t groups() const { return (rows_ + kGroupRows - 1) / kGroupRows; }
  [[nodiscard]] int64_t padded_cols() const { return (cols_ + kBlockCols - 1) / kBlockCols * kBlockCols; }
  [[nodiscard]] int64_t group_bytes() const { return padded_cols() / kBlockCols * kBlockBytes; }
  [[nodiscard]] int64_t bytes() const { return groups() * group_bytes(); }
  [[nodiscard]] const uint8_t* data() const { return buffer_.as<uint8_t>(); }
  /// One scale per row, padded with zeros to whole groups: W = trit * scale.
  [[nodiscard]] const float* row_scales() const { return scales_.data(); }

  /// Stores rows [16*group, ...) of the matrix. trits is [n, cols] row-major with n = rows left in the group
  /// (at most 16), scales [n]. Throws kInvalidArgument on sizes that disagree and values that are no trits.
  /// Safe for distinct groups in parallel.
  void set_group(int64_t group, std::span<const int8_t> trits, std::span<const float> scales);
  /// Reference decode of one row.
  void get_row(int64_t row, std::span<int8_t> trits) const;

 private:
  int64_t rows_ = 0, cols_ = 0;
  AlignedBuffer buffer_;
  std::vector<float> scales_;
};

}  // namespace bitnet
