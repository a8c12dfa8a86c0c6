#include "bitnet/quant/packed_ternary.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

std::vector<int8_t> random_trits(int64_t count, uint32_t seed = 7) {
  std::mt19937 random(seed);
  std::vector<int8_t> trits(static_cast<size_t>(count));
  for (int8_t& trit : trits) trit = static_cast<int8_t>(static_cast<int>(random() % 3) - 1);
  return trits;
}

constexpr std::array kLayouts = {TernaryLayout::kBlocks, TernaryLayout::kRows, TernaryLayout::kColumns,
                                 TernaryLayout::kTight};

PackedTernary pack(int64_t rows, int64_t cols, const std::vector<int8_t>& trits,
                   TernaryLayout layout = TernaryLayout::kBlocks) {
  PackedTernary packed(rows, cols, layout);
  for (int64_t g = 0; g < packed.groups(); ++g) {
    const int64_t first = g * packed.group_rows();
    const int64_t count = std::min<int64_t>(packed.group_rows(), rows - first);
    const std::vector<float> scales(static_cast<size_t>(count), 1.0f + static_cast<float>(g));
    packed.set_group(
        g, std::span(trits).subspan(static_cast<size_t>(first * cols), static_cast<size_t>(count * cols)),
        scales);
  }
  return packed;
}

TEST(PackedTernary, EveryShapeComesBack) {
  for (const auto& [rows, cols] : std::vector<std::pair<int64_t, int64_t>>{{1, 1},
                                                                           {16, 16},
                                                                           {15, 17},
                                                                           {17, 15},
                                                                           {33, 100},
                                                                           {640, 96},
                                                                           {5, 8640},
                                                                           {48, 4},
                                                                           {256, 80},
                                                                           {257, 17}}) {
    const std::vector<int8_t> trits = random_trits(rows * cols);
    for (const TernaryLayout layout : kLayouts) {
      const PackedTernary packed = pack(rows, cols, trits, layout);
      std::vector<int8_t> row(static_cast<size_t>(cols));
      for (int64_t r = 0; r < rows; ++r) {
        packed.get_row(r, row);
        ASSERT_TRUE(std::equal(row.begin(), row.end(), trits.begin() + r * cols))
            << to_string(layout) << " " << rows << "x" << cols << " row " << r;
      }
    }
  }
}

// The header's formula, byte by byte.
TEST(PackedTernary, BytesLieWhereTheContractSays) {
  const int64_t rows = 20;
  const int64_t cols = 40;
  const std::vector<int8_t> trits = random_trits(rows * cols);
  const PackedTernary packed = pack(rows, cols, trits);
  ASSERT_EQ(packed.group_bytes(), 3 * 64);
  ASSERT_EQ(packed.bytes(), 2 * 3 * 64);
  for (int64_t g = 0; g < 2; ++g) {
    for (int64_t b = 0; b < 3; ++b) {
      for (int64_t r = 0; r < 16; ++r) {
        for (int64_t j = 0; j < 4; ++j) {
          const int byte = packed.data()[g * packed.group_bytes() + b * 64 + 4 * r + j];
          for (int64_t s = 0; s < 4; ++s) {
            const int64_t row = 16 * g + r;
            const int64_t col = 16 * b + 4 * s + j;
            const int expected =
                row < rows && col < cols ? trits[static_cast<size_t>(row * cols + col)] + 1 : 1;
            ASSERT_EQ(byte >> (2 * s) & 3, expected) << row << "," << col;
          }
        }
      }
    }
  }
}

int expected_code(int64_t rows, int64_t cols, const std::vector<int8_t>& trits, int64_t row, int64_t col) {
  return row < rows && col < cols ? trits[static_cast<size_t>(row * cols + col)] + 1 : 1;
}

TEST(PackedTernary, RowsLieWhereTheContractSays) {
  const int64_t rows = 20, cols = 40;
  const std::vector<int8_t> trits = random_trits(rows * cols);
  const PackedTernary packed = pack(rows, cols, trits, TernaryLayout::kRows);
  ASSERT_EQ(packed.stride(), 12);
  ASSERT_EQ(packed.bytes(), 32 * 12);
  for (int64_t row = 0; row < 32; ++row) {
    for (int64_t col = 0; col < 48; ++col) {
      const int byte = packed.data()[row * 12 + col / 16 * 4 + col % 4];
      ASSERT_EQ(byte >> (2 * (col % 16 / 4)) & 3, expected_code(rows, cols, trits, row, col))
          << row << "," << col;
    }
  }
}

TEST(PackedTernary, ColumnsLieWhereTheContractSays) {
  const int64_t rows = 300, cols = 20;
  const std::vector<int8_t> trits = random_trits(rows * cols);
  const PackedTernary packed = pack(rows, cols, trits, TernaryLayout::kColumns);
  ASSERT_EQ(packed.stride(), 128);
  ASSERT_EQ(packed.bytes(), 32 * 128);
  for (int64_t col = 0; col < 32; ++col) {
    for (int64_t i = 0; i < 2; ++i) {
      for (int64_t byte = 0; byte < 64; ++byte) {
        for (int64_t s = 0; s < 4; ++s) {
          const int64_t l = byte / 16, u = byte / 4 % 4, j = byte % 4;
          const int64_t row = 256 * i + 64 * u + 16 * s + 4 * l + j;
          ASSERT_EQ(packed.data()[col * 128 + 64 * i + byte] >> (2 * s) & 3,
                    expected_code(rows, cols, trits, row, col))
              << row << "," << col;
        }
      }
    }
  }
}

TEST(PackedTernary, UnitsLieWhereTheContractSays) {
  const int64_t rows = 20, cols = 230;  // two units and three blocks
  const std::vector<int8_t> trits = random_trits(rows * cols);
  const PackedTernary packed = pack(rows, cols, trits, TernaryLayout::kTight);
  ASSERT_EQ(packed.group_bytes(), 2 * 320 + 3 * 64);
  ASSERT_EQ(packed.bytes(), 2 * packed.group_bytes());
  for (int64_t row = 0; row < 32; ++row) {
    const uint8_t* const group = packed.data() + row / 16 * packed.group_bytes();
    const auto code = [&](int64_t col) { return expected_code(rows, cols, trits, row, col); };
    for (int64_t u = 0; u < 2; ++u) {
      for (int64_t j = 0; j < 4; ++j) {
        int index[8];
        for (int64_t i = 0; i < 8; ++i) {
          const int64_t c = 96 * u + 12 * i + j;
          index[i] = code(c) + 3 * code(c + 4) + 9 * code(c + 8);
        }
        const int above[5] = {index[5] >> 2, (index[7] >> 3 & 1) | (index[5] & 3) << 1, index[6] >> 2,
                              index[7] >> 4 | (index[6] & 3) << 1, index[7] & 7};
        for (int64_t v = 0; v < 5; ++v)
          ASSERT_EQ(group[320 * u + 64 * v + 4 * (row % 16) + j], index[v] | above[v] << 5)
              << row << "," << v;
      }
    }
    for (int64_t col = 192; col < 240; ++col) {
      const int byte = group[640 + (col - 192) / 16 * 64 + 4 * (row % 16) + col % 4];
      ASSERT_EQ(byte >> (2 * (col % 16 / 4)) & 3, code(col)) << row << "," << col;
    }
  }
}

TEST(PackedTernary, ScalesArePaddedWithZeros) {
  const PackedTernary packed = pack(17, 16, random_trits(17 * 16));
  EXPECT_EQ(packed.row_scales()[0], 1.0f);
  EXPECT_EQ(packed.row_scales()[16], 2.0f);
  for (int r = 17; r < 32; ++r) EXPECT_EQ(packed.row_scales()[r], 0.0f);
}

TEST(PackedTernary, DataAreAligned) {
  const PackedTernary packed(3, 5);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(packed.data()) % 64, 0u);
}

class PackedTernaryLayouts : public testing::TestWithParam<TernaryLayout> {};
INSTANTIATE_TEST_SUITE_P(All, PackedTernaryLayouts, testing::ValuesIn(kLayouts),
                         [](const auto& suite) { return std::string(to_string(suite.param)); });

TEST_P(PackedTernaryLayouts, WrongSizesAndValuesAreRefused) {
  const auto rows = static_cast<size_t>(PackedTernary(1, 1, GetParam()).group_rows());
  PackedTernary packed(static_cast<int64_t>(rows) + 4, 10, GetParam());
  const std::vector<int8_t> full(10 * rows, 0);
  const std::vector<float> scales(rows, 1.0f);
  EXPECT_THROW(packed.set_group(2, full, scales), Error);
  EXPECT_THROW(packed.set_group(-1, full, scales), Error);
  EXPECT_THROW(packed.set_group(1, full, scales), Error);  // four rows are left
  EXPECT_THROW(packed.set_group(0, full, std::span(scales).first(rows - 1)), Error);
  EXPECT_THROW(packed.set_group(0, std::span(full).first(full.size() - 1), scales), Error);
  for (const int bad : {2, -2, 3, 127, -128, 4, 64}) {
    for (const size_t place : {size_t{0}, size_t{9}, full.size() - 1}) {
      std::vector<int8_t> trits = full;
      trits[place] = static_cast<int8_t>(bad);
      EXPECT_THROW(packed.set_group(0, trits, scales), Error) << bad << " at " << place;
    }
  }
  std::vector<int8_t> row(10);
  EXPECT_THROW(packed.get_row(packed.rows(), row), Error);
  EXPECT_THROW(packed.get_row(0, std::span(row).first(9)), Error);
  EXPECT_THROW(PackedTernary(0, 4, GetParam()), Error);
  EXPECT_THROW(PackedTernary(4, -1, GetParam()), Error);
}

}  // namespace
}  // namespace bitnet
