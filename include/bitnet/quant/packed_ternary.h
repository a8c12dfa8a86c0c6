#pragma once

#include "bitnet/core/memory.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace bitnet {

/// How a PackedTernary lies in memory. Codes are trit + 1; rows and columns are padded with code 1 (weight
/// 0), columns to multiples of 16. All but kTight hold 2 bits a weight, four codes a byte.
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
  /// "t53x16", as kBlocks in fewer bytes: three codes in five bits, where a group's columns fill units of 96;
  /// what is left of them lies behind the units in blocks of kBlocks. A unit is 5 lines of 64 bytes. With
  ///   I_i = code(c) + 3 code(c + 4) + 9 code(c + 8), c = 96 u + 12 i + j, i = 0..7
  /// of row 16g + r, byte 4r + j of line v holds I_v in its lower five bits and above them, from bit 5 on:
  ///   v = 0: bits 2..4 of I_5; v = 1: bit 3 of I_7, bits 0..1 of I_5; v = 2: bits 2..4 of I_6;
  ///   v = 3: bit 4 of I_7, bits 0..1 of I_6; v = 4: bits 0..2 of I_7
  /// so that five of the eight are found as they lie by a lookup that heeds five bits of a byte.
  kTight,
};
[[nodiscard]] std::string_view to_string(TernaryLayout layout);

/// A ternary matrix [rows, cols] as the kernels read it.
class PackedTernary {
 public:
  static constexpr int kGroupRows = 16;
  static constexpr int kBlockCols = 16;
  static constexpr int kBlockBytes = 64;
  static constexpr int kLineRows = 256;  ///< rows of a line of kColumns
  static constexpr int kUnitCols = 96;   ///< columns of a unit of kTight
  static constexpr int kUnitBytes = 320;

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
  [[nodiscard]] int64_t group_bytes() const {
    return padded_cols() * group_rows() / 4 - units() * kUnitSaved;
  }
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
  /// Codes and row scales as they lie in memory, to be kept elsewhere.
  [[nodiscard]] std::array<std::span<const std::byte>, 2> parts() const;
  /// Has `read` fill each of the parts() with what it was in a matrix of the same shape and layout.
  void restore(const std::function<void(std::span<std::byte>)>& read);
  /// Reference decode of one row.
  void get_row(int64_t row, std::span<int8_t> trits) const;
  /// The codes of one row, padding included, a word for each 16 columns: byte j holds in bits 2s and 2s+1 the
  /// code of column 16b + 4s + j, as in kBlocks. Checks nothing; words is [padded_cols() / 16].
  void row_words(int64_t row, std::span<uint32_t> words) const;

 private:
  static constexpr int kUnitSaved = kUnitCols * kGroupRows / 4 - kUnitBytes;
  /// Of a group, if the layout has units.
  [[nodiscard]] int64_t units() const {
    return layout_ == TernaryLayout::kTight ? padded_cols() / kUnitCols : 0;
  }

  int64_t rows_ = 0, cols_ = 0;
  TernaryLayout layout_ = TernaryLayout::kBlocks;
  AlignedBuffer buffer_;  ///< empty with an arena
  std::byte* codes_ = nullptr;
  std::vector<float> scales_;
};

}  // namespace bitnet
