#include "bitnet/quant/packed_ternary.h"
#include "kernel_test.h"

#include <functional>

namespace bitnet::kernels {
namespace {

constexpr float kUntouched = -12345.5f;

/// One product with the answer of the definition: int64 sums over trits, then the one rounding of
/// kernel_table.h.
class Problem {
 public:
  using Trit = std::function<int(int64_t row, int64_t col)>;
  using Activation = std::function<int(int64_t token, int64_t col)>;

  Problem(int64_t rows, int64_t cols, int64_t tokens, const Trit& trit, const Activation& activation)
      : rows_(rows),
        cols_(cols),
        tokens_(tokens),
        padded_cols_(round_up(cols, 16)),
        q_stride_(round_up(cols, 64)),
        weights_(round_up(rows, 16) * padded_cols_ / 4),
        row_scale_(rows),
        q_((tokens - 1) * q_stride_ + padded_cols_),
        scale_(tokens),
        sum_(tokens),
        trits_(static_cast<size_t>(rows * cols)) {
    pack(trit);
    for (int64_t t = 0; t < tokens; ++t) {
      scale_[t] = 0.01f * static_cast<float>(t + 1);
      sum_[t] = 0;
      for (int64_t c = 0; c < cols; ++c) {
        q_[t * q_stride_ + c] = static_cast<int8_t>(activation(t, c));
        sum_[t] += q_[t * q_stride_ + c];
      }
    }
  }

  /// Runs groups [first, last) and compares every element of y, those not to be written included.
  void check(const KernelTable& table, int64_t first, int64_t last) const {
    const int64_t y_stride = rows_ + 3;
    GuardedArray<float> y((tokens_ - 1) * y_stride + rows_);
    y.fill(kUntouched);
    const int64_t group_bytes = padded_cols_ * 4;
    // The kernel sees no weight outside its range of groups.
    GuardedArray<uint8_t> weights(last * group_bytes);
    std::memcpy(weights.data(), weights_.data(), static_cast<size_t>(last * group_bytes));
    table.ternary_matmul({.weights = weights.data(),
                          .row_scale = row_scale_.data(),
                          .rows = rows_,
                          .padded_cols = padded_cols_,
                          .first_group = first,
                          .last_group = last,
                          .tokens = tokens_,
                          .q = q_.data(),
                          .q_stride = q_stride_,
                          .scale = scale_.data(),
                          .sum = sum_.data(),
                          .y = y.data(),
                          .y_stride = y_stride});
    for (int64_t i = 0; i < (tokens_ - 1) * y_stride + rows_; ++i) {
      const int64_t token = i / y_stride, row = i % y_stride;
      const bool written = row < rows_ && row >= 16 * first && row < 16 * last;
      const float expected = written ? answer(token, row) : kUntouched;
      ASSERT_EQ(bits_of(y[i]), bits_of(expected)) << "rows " << rows_ << " cols " << cols_ << " tokens "
                                                  << tokens_ << ": token " << token << " row " << row;
    }
  }
  void check(const KernelTable& table) const { check(table, 0, round_up(rows_, 16) / 16); }

 private:
  void pack(const Trit& trit) {
    PackedTernary packed(rows_, cols_);
    for (int64_t row = 0; row < rows_; ++row) {
      row_scale_[row] = 0.5f + 0.001f * static_cast<float>(row);
      for (int64_t c = 0; c < cols_; ++c)
        trits_[static_cast<size_t>(row * cols_ + c)] = static_cast<int8_t>(trit(row, c));
    }
    for (int64_t group = 0; group < packed.groups(); ++group) {
      const int64_t first = group * 16, count = std::min<int64_t>(16, rows_ - first);
      packed.set_group(
          group,
          std::span(trits_).subspan(static_cast<size_t>(first * cols_), static_cast<size_t>(count * cols_)),
          row_scale_.span().subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
    }
    ASSERT_EQ(packed.bytes(), static_cast<int64_t>(weights_.span().size()));
    std::memcpy(weights_.data(), packed.data(), weights_.span().size());
  }

  float answer(int64_t token, int64_t row) const {
    int64_t sum = 0;
    for (int64_t c = 0; c < cols_; ++c)
      sum += int64_t{trits_[static_cast<size_t>(row * cols_ + c)]} * q_[token * q_stride_ + c];
    return static_cast<float>(sum) * (row_scale_[row] / scale_[token]);
  }

  int64_t rows_, cols_, tokens_, padded_cols_, q_stride_;
  GuardedArray<uint8_t> weights_;
  GuardedArray<float> row_scale_;
  GuardedArray<int8_t> q_;
  GuardedArray<float> scale_;
  GuardedArray<int32_t> sum_;
  std::vector<int8_t> trits_;
};

Problem random_problem(int64_t rows, int64_t cols, int64_t tokens) {
  Random random(static_cast<uint32_t>(rows * 10007 + cols * 101 + tokens));
  return {rows, cols, tokens, [&](int64_t, int64_t) { return static_cast<int>(random() % 3) - 1; },
          [&](int64_t, int64_t) { return static_cast<int>(random() % 256) - 128; }};
}

class TernaryMatmul : public KernelTest {};
BITNET_TEST_EVERY_TABLE(TernaryMatmul);

TEST_P(TernaryMatmul, IsExactForEveryRowAndColumnCount) {
  for (int64_t rows = 1; rows <= 40; ++rows) {
    for (int64_t cols = 1; cols <= 100; ++cols) {
      const int64_t tokens = 1 + (7 * rows + 3 * cols) % 5;
      random_problem(rows, cols, tokens).check(table());
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(TernaryMatmul, IsExactForEveryTokenCount) {
  for (int64_t tokens = 1; tokens <= 40; ++tokens) {
    for (const int64_t rows : {1, 16, 33, 48}) {
      for (const int64_t cols : {16, 100, 272}) {
        random_problem(rows, cols, tokens).check(table());
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(TernaryMatmul, WritesOnlyTheRowsOfItsGroups) {
  for (const int64_t tokens : {1, 2, 5, 17}) {
    const Problem problem = random_problem(70, 64, tokens);
    for (int64_t first = 0; first < 5; ++first) {
      for (int64_t last = first; last <= 5; ++last) problem.check(table(), first, last);
    }
  }
}

/// Sums at their bounds, in models' sizes: int16 accumulators would wrap, and vpmaddubsw saturate, here if
/// anywhere.
TEST_P(TernaryMatmul, IsExactAtTheExtremes) {
  using Activation = Problem::Activation;
  const std::vector<Activation> activations = {
      [](int64_t, int64_t) { return 127; },
      [](int64_t, int64_t) { return -128; },
      [](int64_t, int64_t) { return -127; },
      [](int64_t, int64_t c) { return c % 2 == 0 ? 127 : -128; },
      [](int64_t, int64_t c) { return c % 32 < 16 ? -128 : 127; },
      [](int64_t t, int64_t c) { return (c / 4) % 4 == t % 4 ? -128 : 127; },
  };
  const std::vector<Problem::Trit> trits = {
      [](int64_t, int64_t) { return 1; },
      [](int64_t, int64_t) { return -1; },
      [](int64_t, int64_t) { return 0; },
      [](int64_t r, int64_t c) { return (r + c) % 2 == 0 ? 1 : -1; },
  };
  for (const int64_t cols : {1024, 8640}) {
    for (const int64_t tokens : {1, 2, 4, 9}) {
      for (const Activation& activation : activations) {
        for (const auto& trit : trits) {
          Problem(17, cols, tokens, trit, activation).check(table());
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
        Problem(
            3, cols, tokens, [](int64_t r, int64_t) { return r == 1 ? -1 : 1; },
            [value](int64_t, int64_t) { return value; })
            .check(table());
        if (HasFatalFailure()) return;
      }
    }
  }
}

/// Blocks of tokens that a kernel forms for its caches must meet without gap or overlap.
TEST_P(TernaryMatmul, IsExactForMoreTokensThanACacheHolds) {
  random_problem(18, 6912, 171).check(table());
  random_problem(5, 16, 700).check(table());
}

}  // namespace
}  // namespace bitnet::kernels
