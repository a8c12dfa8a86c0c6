#include "quant/ternary_tiles.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

PackedTernary random_matrix(int64_t rows, int64_t cols, uint32_t seed,
                            TernaryLayout layout = TernaryLayout::kBlocks) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> trit(-1, 1);
  PackedTernary packed(rows, cols, layout);
  for (int64_t group = 0; group < packed.groups(); ++group) {
    const int64_t count = std::min(packed.group_rows(), rows - group * packed.group_rows());
    std::vector<int8_t> trits(static_cast<size_t>(count * cols));
    for (int8_t& t : trits) t = static_cast<int8_t>(trit(random));
    std::vector<float> scales(static_cast<size_t>(count));
    for (float& scale : scales) scale = 1.0f + static_cast<float>(random() % 1000);
    packed.set_group(group, trits, scales);
  }
  return packed;
}

std::vector<uint32_t> pack_all(const TernaryTiles& tiles) {
  std::vector<uint32_t> words(static_cast<size_t>(tiles.groups() * tiles.group_words()));
  // In two parts, as an upload does.
  const int64_t middle = tiles.groups() / 2;
  const auto half = static_cast<size_t>(middle * tiles.group_words());
  tiles.pack(0, middle, std::span(words).first(half));
  tiles.pack(middle, tiles.groups(), std::span(words).subspan(half));
  return words;
}

/// Row `row` of the tiles is row `part_row` of `part` (null: padding), and zeros follow its columns.
void expect_row(const TernaryTiles& tiles, std::span<const uint32_t> words, int64_t row,
                const PackedTernary* part, int64_t part_row) {
  std::vector<int8_t> trits(static_cast<size_t>(tiles.k_tiles() * TernaryTiles::kTileCols));
  if (part != nullptr) part->get_row(part_row, std::span(trits).first(static_cast<size_t>(part->cols())));
  for (size_t col = 0; col < trits.size(); ++col) {
    ASSERT_EQ(TernaryTiles::trit(words, tiles.k_tiles(), row, static_cast<int64_t>(col)), trits[col])
        << "row " << row << ", column " << col;
  }
  EXPECT_EQ(tiles.row_scales()[static_cast<size_t>(row)],
            part == nullptr ? 0.0f : part->row_scales()[part_row]);
}

TEST(TernaryTiles, StackedPartsFollowOneAnother) {
  for (const int64_t cols : {1, 15, 16, 128, 129, 200}) {
    const PackedTernary a = random_matrix(19, cols, 1), b = random_matrix(5, cols, 2),
                        c = random_matrix(9, cols, 3);
    const TernaryTiles tiles({&a, &b, &c}, TernaryTiles::Order::kStacked);
    EXPECT_EQ(tiles.outputs(), 33);
    EXPECT_EQ(tiles.groups(), 3);
    const std::vector<uint32_t> words = pack_all(tiles);
    for (int64_t row = 0; row < 48; ++row) {
      const PackedTernary* part = row < 19 ? &a : row < 24 ? &b : row < 33 ? &c : nullptr;
      expect_row(tiles, words, row, part, row < 19 ? row : row < 24 ? row - 19 : row - 24);
    }
  }
}

TEST(TernaryTiles, PairsAlternateByEight) {
  const PackedTernary gate = random_matrix(21, 140, 4), up = random_matrix(21, 140, 5);
  const TernaryTiles tiles({&gate, &up}, TernaryTiles::Order::kPaired);
  EXPECT_EQ(tiles.outputs(), 21);
  EXPECT_EQ(tiles.groups(), 3);
  const std::vector<uint32_t> words = pack_all(tiles);
  for (int64_t row = 0; row < 48; ++row) {
    const int64_t part_row = row / 16 * 8 + row % 8;
    const PackedTernary* part = part_row >= 21 ? nullptr : row % 16 < 8 ? &gate : &up;
    expect_row(tiles, words, row, part, part_row);
  }
}

TEST(TernaryTiles, EveryLayoutOfThePartsGivesTheSameRows) {
  for (const TernaryLayout layout :
       {TernaryLayout::kBlocks, TernaryLayout::kRows, TernaryLayout::kColumns, TernaryLayout::kTight}) {
    SCOPED_TRACE(to_string(layout));
    const PackedTernary part = random_matrix(530, 200, 9, layout);
    const TernaryTiles tiles({&part}, TernaryTiles::Order::kStacked);
    const std::vector<uint32_t> words = pack_all(tiles);
    for (int64_t row = 0; row < tiles.groups() * TernaryTiles::kGroupRows; ++row)
      expect_row(tiles, words, row, row < 530 ? &part : nullptr, row);
  }
  // Gate by blocks and up by rows, as models with squared ReLU hold them.
  const PackedTernary gate = random_matrix(40, 140, 10),
                      up = random_matrix(40, 140, 11, TernaryLayout::kRows);
  const TernaryTiles pair({&gate, &up}, TernaryTiles::Order::kPaired);
  const std::vector<uint32_t> words = pack_all(pair);
  for (int64_t row = 0; row < 80; ++row)
    expect_row(pair, words, row, row % 16 < 8 ? &gate : &up, row / 16 * 8 + row % 8);
}

TEST(TernaryTiles, RowsOfAMatrixAreTakenAlone) {
  const PackedTernary a = random_matrix(70, 140, 12, TernaryLayout::kRows), b = random_matrix(70, 140, 13);
  const TernaryTiles stacked({{&a, 17, 20}, {&b, 69, 1}}, TernaryTiles::Order::kStacked);
  EXPECT_EQ(stacked.outputs(), 21);
  std::vector<uint32_t> words = pack_all(stacked);
  for (int64_t row = 0; row < 32; ++row) {
    const PackedTernary* part = row < 20 ? &a : row < 21 ? &b : nullptr;
    expect_row(stacked, words, row, part, row < 20 ? row + 17 : 69);
  }
  const TernaryTiles paired({{&a, 32, 9}, {&b, 32, 9}}, TernaryTiles::Order::kPaired);
  EXPECT_EQ(paired.outputs(), 9);
  words = pack_all(paired);
  for (int64_t row = 0; row < 32; ++row) {
    const int64_t part_row = row / 16 * 8 + row % 8;
    const PackedTernary* part = part_row >= 9 ? nullptr : row % 16 < 8 ? &a : &b;
    expect_row(paired, words, row, part, 32 + part_row);
  }
}

TEST(TernaryTiles, ShapesThatDoNotFitAreRefused) {
  const PackedTernary a = random_matrix(4, 16, 6), b = random_matrix(4, 32, 7), c = random_matrix(5, 16, 8);
  EXPECT_THROW(TernaryTiles({}, TernaryTiles::Order::kStacked), Error);
  EXPECT_THROW(TernaryTiles({&a, &b}, TernaryTiles::Order::kStacked), Error);
  EXPECT_THROW(TernaryTiles({&a, &c}, TernaryTiles::Order::kPaired), Error);
  EXPECT_THROW(TernaryTiles({{&a, 2, 3}}, TernaryTiles::Order::kStacked), Error);
  EXPECT_THROW(TernaryTiles({{&a, 2, 0}}, TernaryTiles::Order::kStacked), Error);
  const TernaryTiles tiles({&a}, TernaryTiles::Order::kStacked);
  std::vector<uint32_t> words(5);
  EXPECT_THROW(tiles.pack(0, 1, words), Error);
}

}  // namespace
}  // namespace bitnet
