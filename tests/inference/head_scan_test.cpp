// The intervals of a head scan against the logits of dense_matmul: they must hold on any data.

#include "inference/head_scan.h"

#include "bitnet/quant/block_formats.h"
#include "inference/top_rows.h"

#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
using Random = std::mt19937;
using Values = std::function<float(Random&)>;

float uniform(Random& random) {
  return std::uniform_real_distribution<float>(-1, 1)(random);
}
float normal(Random& random) {
  return std::normal_distribution<float>()(random);
}
/// Mostly small, sometimes a thousand times larger.
float spiky(Random& random) {
  return normal(random) * (random() % 97 == 0 ? 1000.0f : 1.0f);
}
/// Over ten powers of ten.
float wide(Random& random) {
  return normal(random) * std::exp2(30 * uniform(random));
}
float constant(Random&) {
  return 0.3f;
}
float signs(Random& random) {
  return random() % 2 == 0 ? 1.0f : -1.0f;
}
float sparse(Random& random) {
  return random() % 50 == 0 ? normal(random) : 0.0f;
}

class HeadProblem {
 public:
  HeadProblem(DType dtype, int64_t rows, int64_t cols, int64_t tokens, const Values& weights, const Values& x)
      : tokens_(tokens), stride_((cols + 15) / 16 * 16), rows_(rows) {
    Random random(static_cast<uint32_t>(rows + cols + tokens));
    head_.dtype = dtype;
    head_.rows = rows;
    head_.cols = cols;
    head_.row_bytes = cols / dtype_info(dtype).block_elements * dtype_info(dtype).block_bytes;
    bytes_.resize(static_cast<size_t>(rows * head_.row_bytes));
    head_.bytes = bytes_;
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t n = 0; n < rows; ++n) {
      for (float& value : row) value = weights(random);
      quantize_row(dtype, row, std::span(bytes_).subspan(static_cast<size_t>(n * head_.row_bytes)));
    }
    x_ = AlignedBuffer(static_cast<size_t>(tokens * stride_) * sizeof(float));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t k = 0; k < cols; ++k) x_.as<float>()[t * stride_ + k] = x(random);
    }
  }

  std::span<std::byte> bytes() { return bytes_; }
  float& x(int64_t i) { return x_.as<float>()[i]; }

  struct Widths {
    double coarse = 0, fine = 0;  ///< the widest interval, as a share of the largest logit
    double error = 0;             ///< root of the mean square of a logit's distance from the middle of its
                                  ///< interval, as a share of half of that
  };
  /// Fails where a logit lies outside its interval, from the scan or refined.
  Widths check(const kernels::KernelTable& table) {
    ThreadPool pool(2);
    EXPECT_TRUE(RoundedHead::suits(head_));
    const RoundedHead copy(head_, pool, [](std::span<const std::byte>) {});
    HeadScan scan(head_.cols, &copy, table, tokens_);
    for (int64_t t = 0; t < tokens_; ++t) {
      const std::span x(x_.as<float>() + t * stride_, static_cast<size_t>(head_.cols));
      if (!scan.set(t, x)) return {kInfinity, kInfinity, kInfinity};
    }
    const int64_t room = (rows_ + 15) / 16 * 16;
    std::vector<float> lower(static_cast<size_t>(tokens_ * room)), upper(lower.size()), logits(lower.size());
    scan.intervals(0, rows_, tokens_, room, lower.data(), upper.data());
    table.dense_matmul({.dtype = head_.dtype,
                        .weights = reinterpret_cast<const uint8_t*>(head_.bytes.data()),
                        .row_bytes = head_.row_bytes,
                        .cols = head_.cols,
                        .first_row = 0,
                        .last_row = rows_,
                        .tokens = tokens_,
                        .x = x_.as<float>(),
                        .x_stride = stride_,
                        .y = logits.data(),
                        .y_stride = room});
    Widths widest;
    double largest = 0;
    for (int64_t t = 0; t < tokens_; ++t) {
      for (int64_t n = 0; n < rows_; ++n) {
        const auto i = static_cast<size_t>(t * room + n);
        // Written so that NaN, where nothing is known, passes.
        EXPECT_FALSE(logits[i] < lower[i] || logits[i] > upper[i])
            << to_string(head_.dtype) << " row " << n << ": " << logits[i] << " not in [" << lower[i] << ", "
            << upper[i] << "]";
        const auto row = static_cast<int32_t>(n);
        const TopRows::Interval fine = scan.refine(t, {row, lower[i], upper[i]});
        EXPECT_EQ(fine.row, row);
        EXPECT_FALSE(logits[i] < fine.lower || logits[i] > fine.upper)
            << to_string(head_.dtype) << " row " << n << ": " << logits[i] << " not in [" << fine.lower
            << ", " << fine.upper << "] after " << lower[i] << ", " << upper[i];
        const auto wider = [](double width, float a, float b) {
          return std::isnan(b - a) ? kInfinity : std::max(width, double{b} - a);
        };
        widest.coarse = wider(widest.coarse, lower[i], upper[i]);
        widest.fine = wider(widest.fine, fine.lower, fine.upper);
        const double half = (double{upper[i]} - lower[i]) / 2;
        const double error = (logits[i] - (double{upper[i]} + lower[i]) / 2) / half;
        widest.error += error * error / static_cast<double>(rows_ * tokens_);
        largest = std::max(largest, std::fabs(double{logits[i]}));
      }
    }
    return {widest.coarse / largest, widest.fine / largest, std::sqrt(widest.error)};
  }

 private:
  DenseMatrix head_;
  int64_t tokens_, stride_, rows_;
  std::vector<std::byte> bytes_;
  AlignedBuffer x_;
};

const kernels::KernelTable& best() {
  return kernels::select_kernels("");
}

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ6_K};

TEST(HeadScan, HoldsOnAnyData) {
  for (const DType dtype : kTypes) {
    for (const Values& weights :
         {Values(normal), Values(spiky), Values(constant), Values(signs), Values(sparse)}) {
      for (const Values& x : {Values(normal), Values(spiky), Values(wide), Values(constant), Values(signs)}) {
        for (const int64_t cols : {256, 768}) (void)HeadProblem(dtype, 37, cols, 3, weights, x).check(best());
        if (::testing::Test::HasFailure()) return;
      }
    }
  }
}

TEST(HeadScan, HoldsForEveryLengthOfAPlainRow) {
  for (int64_t cols = 1; cols < 70; ++cols)
    (void)HeadProblem(DType::kF32, 18, cols, 1 + cols % 6, wide, wide).check(best());
}

TEST(HeadScan, IsNarrowOnAModelsData) {
  // Normal weights and activations of a 2B-4T row: +-0.8 standard deviations of a logit (docs/NUMERICS.md),
  // of which the highest of 500 lies at about 3; a quarter of that with two bits more.
  for (const DType dtype : kTypes) {
    const HeadProblem::Widths widths = HeadProblem(dtype, 500, 2560, 1, normal, normal).check(best());
    EXPECT_LT(widths.coarse, 0.65) << to_string(dtype);
    EXPECT_LT(widths.fine, 0.17) << to_string(dtype);
  }
}

TEST(HeadScan, RoundsAtRandom) {
  // The bound is 9.2 standard deviations of the sum of independent errors, and a little more: also where all
  // weights and activations are the same, or rows are the same numbers again and again.
  for (const Values& weights : {Values(normal), Values(constant), Values(signs), Values(spiky)}) {
    for (const Values& x : {Values(normal), Values(constant), Values(signs)}) {
      const double error = HeadProblem(DType::kF32, 300, 2560, 1, weights, x).check(best()).error;
      EXPECT_LT(error, 0.35);
      EXPECT_GT(error, 1e-4);
    }
  }
  const double error = HeadProblem(DType::kF32, 500, 2560, 1, normal, normal).check(best()).error;
  EXPECT_NEAR(error, 1 / 9.5, 0.02);
}

TEST(HeadScan, KnowsWhatItDoesNotKnow) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    HeadProblem problem(dtype, 20, 64, 1, normal, normal);
    // NaN or infinity in row 3.
    const size_t bytes = dtype == DType::kF32 ? 4 : 2;
    for (size_t i = 0; i < bytes; ++i) problem.bytes()[3 * 64 * bytes + i] = std::byte{0x7f};
    EXPECT_FALSE(problem.check(best()).coarse < 1);
  }
  HeadProblem scale(DType::kQ6_K, 20, 256, 1, normal, normal);
  scale.bytes()[3 * 210 + 209] = std::byte{0x7c};
  (void)scale.check(best());
  for (const float bad : {NAN, kInfinity, 1e20f}) {
    HeadProblem problem(DType::kF32, 20, 64, 1, normal, normal);
    problem.x(5) = bad;
    EXPECT_EQ(problem.check(best()).coarse, kInfinity);
  }
}

std::vector<int32_t> picked(const std::vector<float>& lower, const std::vector<float>& upper, int64_t k,
                            const std::vector<int32_t>& excluded, size_t parts = 1) {
  std::vector<TopRows> tops(parts);
  for (size_t p = 0; p < parts; ++p) {
    const size_t begin = lower.size() * p / parts, end = lower.size() * (p + 1) / parts;
    tops[p].reset(k, excluded);
    tops[p].add(static_cast<int64_t>(begin), std::span(lower).subspan(begin, end - begin),
                std::span(upper).subspan(begin, end - begin));
  }
  std::vector<int32_t> rows;
  for (const TopRows::Interval& row : TopRows::merge(tops)) rows.push_back(row.row);
  return rows;
}

TEST(TopRows, KeepsEveryRowThatMayBeAmongTheHighest) {
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    const size_t count = 1 + random() % 300;
    const auto k = static_cast<int64_t>(1 + random() % 10);
    std::vector<float> lower(count), upper(count), logits(count);
    for (size_t i = 0; i < count; ++i) {
      // Few distinct values, so that there are ties.
      logits[i] = static_cast<float>(random() % 20);
      lower[i] = logits[i] - static_cast<float>(random() % 4);
      upper[i] = logits[i] + static_cast<float>(random() % 4);
      if (random() % 50 == 0) lower[i] = upper[i] = NAN;
    }
    const std::vector<int32_t> excluded{0, 7, 8, 200};
    for (const size_t parts : {size_t{1}, size_t{3}}) {
      const std::vector<int32_t> rows = picked(lower, upper, k, excluded, parts);
      EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
      std::vector<int32_t> order;
      for (size_t i = 0; i < count; ++i) {
        if (!std::binary_search(excluded.begin(), excluded.end(), static_cast<int32_t>(i)))
          order.push_back(static_cast<int32_t>(i));
      }
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
      });
      order.resize(std::min(order.size(), static_cast<size_t>(k)));
      for (const int32_t row : order) EXPECT_TRUE(std::binary_search(rows.begin(), rows.end(), row));
      for (const int32_t row : excluded) EXPECT_FALSE(std::binary_search(rows.begin(), rows.end(), row));
    }
  }
}

TEST(TopRows, LeavesOutWhatCannotBe) {
  EXPECT_EQ(picked({0, 5, 3, 9}, {1, 6, 4, 10}, 1, {}), (std::vector<int32_t>{3}));
  EXPECT_EQ(picked({0, 5, 3, 9}, {1, 6, 4, 10}, 2, {}), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(picked({0, 5, 3, 9}, {1, 6, 4, 10}, 1, {3}), (std::vector<int32_t>{1}));
  EXPECT_EQ(picked({2, 2, 2}, {2, 2, 2}, 1, {}), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(picked({1, 2}, {1, 2}, 5, {}), (std::vector<int32_t>{0, 1}));
}

}  // namespace
}  // namespace bitnet
