#pragma once

#include "bitnet/quant/packed_ternary.h"

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// Rows [first, first + count) of a matrix of any layout.
struct TernaryRows {
  const PackedTernary* matrix = nullptr;
  int64_t first = 0, count = 0;

  TernaryRows(const PackedTernary* whole) : TernaryRows(whole, 0, whole->rows()) {}
  TernaryRows(const PackedTernary* of, int64_t from, int64_t rows) : matrix(of), first(from), count(rows) {}
};

/// Rows of several ternary matrices of the same width as one, in the GPU's resident layout.
///
/// Rows are taken in groups of 16, columns in tiles of 128; both are padded with weight 0. The tiles of a
/// group follow one another, then the next group's. A tile is 512 bytes = 32 lanes x 4 words: lane 4g + t (g
/// < 8, t < 4) holds, for rows g and g + 8, the sixteen columns 16t ... of the tile's first half and then of
/// its second:
///   word 0: row g, columns 16t ..;  word 1: row g + 8, the same;  word 2: row g, columns 64 + 16t ..;  word
///   3: row g + 8, the same
/// A word is that of PackedTernary's kBlocks: byte j holds in bits 2s, 2s + 1 the code (trit + 1) of column
/// 4s + j. So a warp reads a tile as one 16-byte load a lane, a mask leaves four columns for a 4-way int8 dot
/// product, and the same four are the lane's registers of the tensor cores' m16n8k32 int8 product, with the
/// columns of both operands permuted alike.
class TernaryTiles {
 public:
  static constexpr int64_t kGroupRows = 16;
  static constexpr int64_t kTileCols = 128;
  static constexpr int64_t kTileWords = 128;
  /// kStacked: the rows of the parts one after another. kPaired: of two equally large parts; group i holds
  /// rows 8i ... 8i + 7 of the first, then of the second.
  enum class Order { kStacked, kPaired };

  /// The parts' matrices must outlive this. Throws kInvalidArgument where their shapes do not fit.
  TernaryTiles(std::vector<TernaryRows> parts, Order order);

  [[nodiscard]] int64_t cols() const { return parts_.front().matrix->cols(); }
  [[nodiscard]] int64_t groups() const { return groups_; }
  [[nodiscard]] int64_t k_tiles() const { return (cols() + kTileCols - 1) / kTileCols; }
  [[nodiscard]] int64_t group_words() const { return k_tiles() * kTileWords; }
  /// Rows that a product writes: those of the parts, or of one of a pair.
  [[nodiscard]] int64_t outputs() const { return outputs_; }

  /// Writes groups [first, last), (last - first) * group_words() words. Safe for distinct groups in parallel.
  void pack(int64_t first, int64_t last, std::span<uint32_t> words) const;
  /// The scale of each row, 0 where it is padding, [groups * 16].
  [[nodiscard]] std::vector<float> row_scales() const;

  /// Reference decode: the trit at a row (0 .. 16 groups) and column of packed words.
  [[nodiscard]] static int trit(std::span<const uint32_t> words, int64_t k_tiles, int64_t row, int64_t col);

 private:
  struct Source {
    const PackedTernary* part = nullptr;  ///< null: padding
    int64_t row = 0;
  };
  [[nodiscard]] Source source(int64_t row) const;

  std::vector<TernaryRows> parts_;
  Order order_;
  int64_t groups_ = 0, outputs_ = 0;
};

}  // namespace bitnet
