#pragma once

#include "bitnet/core/memory.h"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace bitnet {

/// How a PackedTernary lies in memory. All hold 2 bits a weight, code = trit + 1, four codes a byte, and pad
/// rows and columns with code 1 (weight 0). Columns are padded to multiples of 16.
enum class TernaryLayout {
  /// "t2x16", for products with whole matrices. Rows are taken in groups of 16, columns in blocks of 16. A
  /// block is 64 bytes: byte 4*r + j holds, in bits 2s and 2s+1 (s = 0..3), code(row 16g + r, column 16b + 4s
  /// + j). Masking a block with 0x03 << 2s thus leaves 16 rows x 4 consecutive columns, scaled by 4^s, ready
  /// for a 4-way int8 dot product against 4 broadcast activations: no shift is needed (docs/NUMERICS.md). The
  /// blocks of a group follow one another; groups follow one another.
  kBlocks,
  /// "t2row", for products with chosen rows: each row is contiguous, the bytes that it has in t2x16. Byte 4b
  /// +
  /// j of a row holds, in bits 2s and 2s+1, the code of column 16b + 4s + j. Rows are padded to groups of 16.
  kRows,
  /// "t2col", for products with chosen columns: each column is contiguous, one line of 64 bytes for every 256
  /// rows (its groups). Byte 16 l + 4 u + j of line i holds, in bits 2s and 2s+1, the code of row 256 i + 64
  /// u
  /// + 16 s + 4 l + j (u, s, l, j = 0..3). Interleaving the lines of four columns byte by byte, as vectors of
  /// 16-byte lanes do, and masking with 0x03 << 2s then leaves 16 consecutive rows x 4 columns.
  kColumns,
};
[[nodiscard]] std::string_view to_string(TernaryLayout layout);

/// A ternary matrix [rows, cols] as the kernels read it.
class PackedTernary {
 public:
  static constexpr int kGroupRows = 16;
  static constexpr int kBlockCols = 16;
  static constexpr int kBlockBytes = 64;
  static constexpr int kLineRows = 256;  ///< rows of a line of kColumns

  PackedTernary() = default;
  /// The part of memory that a group fills is unspecified until its set_group(); it is not touched before.
  /// With an arena, which then must outlive the matrix, its codes lie there: matrices one after the other
  /// fill huge pages that single ones would only begin.
  PackedTernary(int64_t rows, int64_t cols, TernaryLayout layout = TernaryLayout::kBlocks,
                Arena* arena = nullptr);

  [[nodiscard]] TernaryLayout layout() const { return layout_; }
  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t cols() const { return cols_; }
  /// Rows that set_group() takes at once: 16, or 256 in kColumns.
  [[nodiscard]] int64_t group_rows() const {
    return layout_ == TernaryLayout::kColumns ? kLineRows : kGroupRows;
  }
  [[nodiscard]] int64_t groups() const { return (rows_ + group_rows() - 1) / group_rows(); }
  [[nodiscard]] int64_t padded_cols() const { return (cols_ + kBlockCols - 1) / kBlockCols * kBlockCols; }
  [[nodiscard]] int64_t group_bytes() const { return padded_cols() * group_rows() / 4; }
  [[nodiscard]] int64_t bytes() const { return groups() * group_bytes(); }
  /// Distance of two rows in kRows, of two columns in kColumns.
  [[nodiscard]] int64_t stride() const {
    return layout_ == TernaryLayout::kColumns ? groups() * kLineRows / 4 : padded_cols() / 4;
  }
  [[nodiscard]] const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(codes_); }
  /// One scale per row, padded with zeros to whole groups: W = trit * scale.
  [[nodiscard]] const float* row_scales() const { return scales_.data(); }

  /// Stores rows [group_rows() * group, ...) of the matrix. trits is [n, cols] row-major with n = rows left
  /// in the group (at most group_rows()), scales [n]. Throws kInvalidArgument on sizes that disagree and
  /// values that are no trits. Safe for distinct groups in parallel.
  void set_group(int64_t group, std::span<const int8_t> trits, std::span<const float> scales);
  /// Reference decode of one row.
  void get_row(int64_t row, std::span<int8_t> trits) const;

 private:
  int64_t rows_ = 0, cols_ = 0;
  TernaryLayout layout_ = TernaryLayout::kBlocks;
  AlignedBuffer buffer_;  ///< empty with an arena
  std::byte* codes_ = nullptr;
  std::vector<float> scales_;
};

}  // namespace bitnet
