#include "quant/ternary_tiles.h"

#include "bitnet/core/error.h"

#include <array>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr uint32_t kZeroCodes = 0x55555555u;  // sixteen codes 1 = sixteen weights 0
constexpr int64_t kPairRows = TernaryTiles::kGroupRows / 2;
constexpr int64_t kBlocksPerTile = TernaryTiles::kTileCols / PackedTernary::kBlockCols;

/// One row of a PackedTernary as words of sixteen columns, whatever its layout.
class RowWords {
 public:
  RowWords() = default;  ///< padding
  RowWords(const PackedTernary& part, int64_t row)
      : words_(static_cast<size_t>(part.padded_cols() / PackedTernary::kBlockCols)) {
    part.row_words(row, words_);
  }

  [[nodiscard]] uint32_t at(int64_t block) const {
    return block < std::ssize(words_) ? words_[static_cast<size_t>(block)] : kZeroCodes;
  }

 private:
  std::vector<uint32_t> words_;
};

void check_parts(std::span<const TernaryRows> parts, TernaryTiles::Order order) {
  if (parts.empty()) throw Error(ErrorCode::kInvalidArgument, "tiles need a matrix");
  for (const TernaryRows& part : parts) {
    const PackedTernary& matrix = *part.matrix;
    if (part.first < 0 || part.count < 1 || part.first > matrix.rows() - part.count) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("rows [{}, {}) of a matrix of {}", part.first,
                                                           part.first + part.count, matrix.rows()));
    }
    if (matrix.cols() == parts.front().matrix->cols()) continue;
    throw Error(ErrorCode::kInvalidArgument, fmt::format("matrices of {} and {} columns cannot share tiles",
                                                         parts.front().matrix->cols(), matrix.cols()));
  }
  if (order != TernaryTiles::Order::kPaired) return;
  if (parts.size() != 2 || parts[0].count != parts[1].count)
    throw Error(ErrorCode::kInvalidArgument, "a pair takes two matrices of the same shape");
}

}  // namespace

TernaryTiles::TernaryTiles(std::vector<TernaryRows> parts, Order order)
    : parts_(std::move(parts)), order_(order) {
  check_parts(parts_, order);
  if (order == Order::kPaired) {
    outputs_ = parts_.front().count;
    groups_ = (outputs_ + kPairRows - 1) / kPairRows;
    return;
  }
  for (const TernaryRows& part : parts_) outputs_ += part.count;
  groups_ = (outputs_ + kGroupRows - 1) / kGroupRows;
}

TernaryTiles::Source TernaryTiles::source(int64_t row) const {
  if (order_ == Order::kPaired) {
    const int64_t in_group = row % kGroupRows;
    const int64_t part_row = row / kGroupRows * kPairRows + in_group % kPairRows;
    if (part_row >= outputs_) return {};
    const TernaryRows& part = parts_[in_group < kPairRows ? 0 : 1];
    return {part.matrix, part.first + part_row};
  }
  for (const TernaryRows& part : parts_) {
    if (row < part.count) return {part.matrix, part.first + row};
    row -= part.count;
  }
  return {};
}

void TernaryTiles::pack(int64_t first, int64_t last, std::span<uint32_t> words) const {
  if (first < 0 || last > groups_ || std::ssize(words) != (last - first) * group_words()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("groups [{}, {}) of {} into {} words", first, last, groups_, words.size()));
  }
  uint32_t* out = words.data();
  for (int64_t group = first; group < last; ++group) {
    std::array<RowWords, kGroupRows> rows;
    for (int64_t r = 0; r < kGroupRows; ++r) {
      const Source from = source(group * kGroupRows + r);
      if (from.part == nullptr) continue;
      rows[static_cast<size_t>(r)] = RowWords(*from.part, from.row);
    }
    for (int64_t block = 0; block < k_tiles() * kBlocksPerTile; block += kBlocksPerTile) {
      for (size_t lane = 0; lane < 32; ++lane) {
        const RowWords& low = rows[lane / 4];
        const RowWords& high = rows[lane / 4 + 8];
        const auto t = static_cast<int64_t>(lane % 4);
        *out++ = low.at(block + t);
        *out++ = high.at(block + t);
        *out++ = low.at(block + 4 + t);
        *out++ = high.at(block + 4 + t);
      }
    }
  }
}

std::vector<float> TernaryTiles::row_scales() const {
  std::vector<float> scales(static_cast<size_t>(groups_ * kGroupRows));
  for (size_t row = 0; row < scales.size(); ++row) {
    const Source from = source(static_cast<int64_t>(row));
    if (from.part != nullptr) scales[row] = from.part->row_scales()[from.row];
  }
  return scales;
}

int TernaryTiles::trit(std::span<const uint32_t> words, int64_t k_tiles, int64_t row, int64_t col) {
  const int64_t tile = row / kGroupRows * k_tiles + col / kTileCols, in_group = row % kGroupRows;
  const int64_t block = col % kTileCols / PackedTernary::kBlockCols,
                in_block = col % PackedTernary::kBlockCols;
  const int64_t lane = in_group % 8 * 4 + block % 4, word = block / 4 * 2 + in_group / 8;
  const auto shift = static_cast<unsigned>(8 * (in_block % 4) + 2 * (in_block / 4));
  return static_cast<int>(words[static_cast<size_t>(tile * kTileWords + lane * 4 + word)] >> shift & 3u) - 1;
}

}  // namespace bitnet
