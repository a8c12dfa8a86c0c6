// The blocking of the AMX kernels on every machine, over tiles emulated in plain loops.

#include "kernels/cpu/amx/tile_stream.h"
#include "ternary_problem.h"

namespace bitnet::kernels {
namespace {

struct EmulatedTile {
  int64_t rows = 0;
  uint8_t bytes[16][64] = {};
};

/// As the processor: 8 tiles of 16 rows x 64 bytes; a tile configured with fewer rows touches only these.
struct EmulatedTiles {
  inline static EmulatedTile tiles[8];
  inline static bool configured = false;

  static void configure(int64_t n0, int64_t n1) {
    for (int tile = 0; tile < 8; ++tile) {
      const bool codes = tile >= 6, second = tile == 2 || tile == 3 || tile == 5;
      tiles[tile] = {};
      tiles[tile].rows = codes ? 16 : second ? n1 : n0;
    }
    ASSERT_TRUE(1 <= n0 && n0 <= 16 && 1 <= n1 && n1 <= 16);
    configured = true;
  }
  static void release() { configured = false; }
  template <int C>
  static void zero() {
    std::memset(tiles[C].bytes, 0, sizeof tiles[C].bytes);
  }
  template <int T>
  static void load(const void* p, int64_t stride) {
    ASSERT_TRUE(configured);
    zero<T>();
    for (int64_t row = 0; row < tiles[T].rows; ++row)
      std::memcpy(tiles[T].bytes[row], static_cast<const uint8_t*>(p) + row * stride, 64);
  }
  template <int C>
  static void store(void* p, int64_t stride) {
    for (int64_t row = 0; row < tiles[C].rows; ++row)
      std::memcpy(static_cast<uint8_t*>(p) + row * stride, tiles[C].bytes[row], 64);
  }
  template <int C, int A, int B>
  static void multiply() {
    ASSERT_EQ(tiles[C].rows, tiles[A].rows);
    for (int64_t m = 0; m < tiles[A].rows; ++m) {
      int32_t sums[16];
      std::memcpy(sums, tiles[C].bytes[m], sizeof sums);
      for (int64_t k = 0; k < 64; ++k) {
        const int32_t activation = static_cast<int8_t>(tiles[A].bytes[m][k]);
        for (int64_t n = 0; n < 16; ++n) sums[n] += activation * tiles[B].bytes[k / 4][4 * n + k % 4];
      }
      std::memcpy(tiles[C].bytes[m], sums, sizeof sums);
    }
  }
  static void unpack(const uint8_t* block, uint8_t* codes) {
    for (int i = 0; i < 256; ++i) codes[i] = static_cast<uint8_t>((block[i % 64] >> (2 * (i / 64))) & 3);
  }
  static void unpack_unit(const uint8_t* unit, uint8_t* codes) {
    for (int64_t row = 0; row < 16; ++row) {
      for (int64_t col = 0; col < 96; ++col) {
        const int64_t i = col / 12;
        const auto line = [&](int64_t v) { return int{unit[64 * v + 4 * row + col % 4]}; };
        const int index = i < 5    ? line(i) % 32
                          : i == 5 ? line(0) / 32 * 4 + line(1) / 64
                          : i == 6 ? line(2) / 32 * 4 + line(3) / 64
                                   : line(3) / 32 % 2 * 16 + line(1) / 32 % 2 * 8 + line(4) / 32;
        const int digits[] = {index % 3, index / 3 % 3, index / 9};
        codes[col / 4 * 64 + 4 * row + col % 4] = static_cast<uint8_t>(digits[col % 12 / 4]);
      }
    }
  }
  static void store_rows(const TernaryMatmulArgs& a, int64_t token, int64_t group, const int32_t* sums) {
    for (int64_t row = 16 * group; row < std::min<int64_t>(a.rows, 16 * group + 16); ++row)
      a.y[token * a.y_stride + row] =
          static_cast<float>(sums[row - 16 * group] - a.sum[token]) * (a.row_scale[row] / a.scale[token]);
  }
};

/// Panels for any number of tokens.
KernelTable panel_table() {
  KernelTable table = {};
  table.name = "amx panels, emulated";
  table.ternary_matmul = panel_matmul<amx::TilePanel<EmulatedTiles>>;
  table.ternary_tight = panel_matmul<amx::TilePanel<EmulatedTiles>, true>;
  return table;
}

/// Streams for few tokens.
KernelTable emulated_table() {
  KernelTable table = panel_table();
  table.name = "amx, emulated";
  table.ternary_matmul = amx::tile_matmul<EmulatedTiles, false>;
  table.ternary_tight = amx::tile_matmul<EmulatedTiles, true>;
  return table;
}

class TilePanel : public testing::TestWithParam<TernaryLayout> {};
INSTANTIATE_TEST_SUITE_P(Layouts, TilePanel, testing::Values(TernaryLayout::kBlocks, TernaryLayout::kTight),
                         [](const auto& suite) { return std::string(to_string(suite.param)); });

TEST_P(TilePanel, IsExactForEveryTailOfColumnsAndTokens) {
  for (int64_t cols = 1; cols <= 160; cols += 5) {
    for (const int64_t tokens : {1, 2, 15, 16, 17, 31, 32, 33, 50, 64}) {
      const TernaryProblem problem = random_ternary_problem(16 + cols % 40, cols, tokens, GetParam());
      problem.check(panel_table());
      problem.check(emulated_table());
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_FALSE(EmulatedTiles::configured) << "tiles were not released";
}

/// Partial sums pass from slice to slice, and batches of tokens meet without gap or overlap.
TEST_P(TilePanel, IsExactAcrossSlicesAndBatches) {
  random_ternary_problem(33, 3000, 35, GetParam()).check(emulated_table());
  for (const int64_t cols : {192, 256, 288, 384, 496, 576, 1040, 3000})
    for (const int64_t tokens : {7, 29})
      random_ternary_problem(50, cols, tokens, GetParam()).check(emulated_table());
  random_ternary_problem(3, 13824, 130, GetParam()).check(emulated_table());
  random_ternary_problem(3, 4112, 128, GetParam()).check(emulated_table());
  random_ternary_problem(3, 64, 1100, GetParam()).check(emulated_table());
}

TEST_P(TilePanel, WritesOnlyTheRowsOfItsGroups) {
  const TernaryProblem problem = random_ternary_problem(70, 80, 18, GetParam());
  for (int64_t first = 0; first < 5; ++first) {
    for (int64_t last = first; last <= 5; ++last) {
      problem.check(panel_table(), first, last);
      problem.check(emulated_table(), first, last);
    }
  }
}

TEST_P(TilePanel, IsExactUpToTheBoundOnColumns) {
  for (const int value : {127, -128}) {
    const TernaryProblem problem(
        1, (int64_t{1} << 18) - 16, 2, [](int64_t, int64_t) { return 1; },
        [value](int64_t, int64_t) { return value; }, GetParam());
    problem.check(panel_table());
    problem.check(emulated_table());
  }
}

}  // namespace
}  // namespace bitnet::kernels
