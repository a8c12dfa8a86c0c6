#include "ternary_problem.h"

namespace bitnet::kernels {
namespace {

/// Every table, and those that multiply t53x16, once more with it.
struct TableAndLayout {
  const KernelTable* table;
  TernaryLayout layout;
};

std::vector<TableAndLayout> tables_and_layouts() {
  std::vector<TableAndLayout> all;
  for (const KernelTable* table : all_runnable()) {
    all.push_back({table, TernaryLayout::kBlocks});
    if (table->ternary_tight != nullptr) all.push_back({table, TernaryLayout::kTight});
  }
  return all;
}

class TernaryMatmul : public testing::TestWithParam<TableAndLayout> {
 protected:
  [[nodiscard]] const KernelTable& table() const { return *GetParam().table; }
  [[nodiscard]] TernaryLayout layout() const { return GetParam().layout; }
};
INSTANTIATE_TEST_SUITE_P(Isa, TernaryMatmul, testing::ValuesIn(tables_and_layouts()), [](const auto& suite) {
  return std::string(suite.param.table->name) + "_" + std::string(to_string(suite.param.layout));
});

TEST_P(TernaryMatmul, IsExactForEveryRowAndColumnCount) {
  for (int64_t rows = 1; rows <= 40; ++rows) {
    for (int64_t cols = 1; cols <= 120; ++cols) {
      const int64_t tokens = 1 + (7 * rows + 3 * cols) % 5;
      random_ternary_problem(rows, cols, tokens, layout()).check(table());
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(TernaryMatmul, IsExactForEveryTokenCount) {
  for (int64_t tokens = 1; tokens <= 40; ++tokens) {
    for (const int64_t rows : {1, 16, 33, 48}) {
      for (const int64_t cols : {16, 64, 100, 272}) {
        random_ternary_problem(rows, cols, tokens, layout()).check(table());
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(TernaryMatmul, WritesOnlyTheRowsOfItsGroups) {
  for (const int64_t tokens : {1, 2, 5, 17}) {
    const TernaryProblem problem = random_ternary_problem(70, 112, tokens, layout());
    for (int64_t first = 0; first < 5; ++first) {
      for (int64_t last = first; last <= 5; ++last) problem.check(table(), first, last);
    }
  }
}

/// Sums at their bounds, in models' sizes: int16 accumulators would wrap, and vpmaddubsw saturate, here if
/// anywhere.
TEST_P(TernaryMatmul, IsExactAtTheExtremes) {
  using Activation = TernaryProblem::Activation;
  const std::vector<Activation> activations = {
      [](int64_t, int64_t) { return 127; },
      [](int64_t, int64_t) { return -128; },
      [](int64_t, int64_t) { return -127; },
      [](int64_t, int64_t c) { return c % 2 == 0 ? 127 : -128; },
      [](int64_t, int64_t c) { return c % 32 < 16 ? -128 : 127; },
      [](int64_t t, int64_t c) { return (c / 4) % 4 == t % 4 ? -128 : 127; },
  };
  const std::vector<TernaryProblem::Trit> trits = {
      [](int64_t, int64_t) { return 1; },
      [](int64_t, int64_t) { return -1; },
      [](int64_t, int64_t) { return 0; },
      [](int64_t r, int64_t c) { return (r + c) % 2 == 0 ? 1 : -1; },
  };
  for (const int64_t cols : {1024, 8640}) {
    for (const int64_t tokens : {1, 2, 4, 9}) {
      for (const Activation& activation : activations) {
        for (const auto& trit : trits) {
          TernaryProblem(17, cols, tokens, trit, activation, layout()).check(table());
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(TernaryMatmul, IsExactUpToTheBoundOnColumns) {
  for (const int64_t cols : {int64_t{13824}, int64_t{1} << 17, (int64_t{1} << 18) - 16}) {
    for (const int64_t tokens : {1, 3, 5}) {
      for (const int value : {127, -128}) {
        TernaryProblem(
            3, cols, tokens, [](int64_t r, int64_t) { return r == 1 ? -1 : 1; },
            [value](int64_t, int64_t) { return value; }, layout())
            .check(table());
        if (HasFatalFailure()) return;
      }
    }
  }
}

/// Blocks of tokens that a kernel forms for its caches must meet without gap or overlap.
TEST_P(TernaryMatmul, IsExactForMoreTokensThanACacheHolds) {
  random_ternary_problem(18, 6912, 171, layout()).check(table());
  random_ternary_problem(5, 16, 700, layout()).check(table());
}

}  // namespace
}  // namespace bitnet::kernels
