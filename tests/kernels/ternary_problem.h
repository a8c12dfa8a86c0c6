#pragma once

#include "bitnet/quant/packed_ternary.h"
#include "kernel_test.h"

#include <functional>

namespace bitnet::kernels {

inline constexpr float kUntouched = -12345.5f;

/// One product with the answer of the definition: int64 sums over trits, then the one rounding of
/// kernel_table.h.
class TernaryProblem {
 public:
  using Trit = std::function<int(int64_t row, int64_t col)>;
  using Activation = std::function<int(int64_t token, int64_t col)>;

  TernaryProblem(int64_t rows, int64_t cols, int64_t tokens, const Trit& trit, const Activation& activation,
                 TernaryLayout layout = TernaryLayout::kBlocks)
      : layout_(layout),
        group_bytes_(PackedTernary(1, cols, layout).group_bytes()),
        rows_(rows),
        cols_(cols),
        tokens_(tokens),
        padded_cols_(round_up(cols, 16)),
        q_stride_(round_up(cols, 64)),
        weights_(round_up(rows, 16) / 16 * group_bytes_),
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
    // The kernel sees no weight outside its range of groups.
    GuardedArray<uint8_t> weights(last * group_bytes_);
    std::memcpy(weights.data(), weights_.data(), static_cast<size_t>(last * group_bytes_));
    const auto multiply = layout_ == TernaryLayout::kTight ? table.ternary_tight : table.ternary_matmul;
    multiply({.weights = weights.data(),
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
    PackedTernary packed(rows_, cols_, layout_);
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

  TernaryLayout layout_;
  int64_t group_bytes_, rows_, cols_, tokens_, padded_cols_, q_stride_;
  GuardedArray<uint8_t> weights_;
  GuardedArray<float> row_scale_;
  GuardedArray<int8_t> q_;
  GuardedArray<float> scale_;
  GuardedArray<int32_t> sum_;
  std::vector<int8_t> trits_;
};

inline TernaryProblem random_ternary_problem(int64_t rows, int64_t cols, int64_t tokens,
                                             TernaryLayout layout = TernaryLayout::kBlocks) {
  Random random(static_cast<uint32_t>(rows * 10007 + cols * 101 + tokens));
  return {rows,
          cols,
          tokens,
          [&](int64_t, int64_t) { return static_cast<int>(random() % 3) - 1; },
          [&](int64_t, int64_t) { return static_cast<int>(random() % 256) - 128; },
          layout};
}

}  // namespace bitnet::kernels
