#include "kernel_test.h"

#include <cmath>
#include <limits>

namespace bitnet::kernels {
namespace {

constexpr int8_t kUntouched = 77;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Quantized {
  std::vector<int8_t> q;  // padded to 16
  float scale;
  int32_t sum;
};

Quantized quantize(const KernelTable& table, const std::vector<float>& row) {
  const auto cols = static_cast<int64_t>(row.size());
  GuardedArray<float> x(cols);
  std::copy(row.begin(), row.end(), x.data());
  GuardedArray<int8_t> q(round_up(cols, 16));
  q.fill(kUntouched);
  Quantized out{.q = {}, .scale = -1, .sum = -1};
  table.quantize({.x = x.data(),
                  .x_stride = cols,
                  .tokens = 1,
                  .cols = cols,
                  .q = q.data(),
                  .q_stride = round_up(cols, 64),
                  .scale = &out.scale,
                  .sum = &out.sum});
  out.q.assign(q.span().begin(), q.span().end());
  return out;
}

/// The formula of kernel_table.h, word for word.
Quantized by_definition(const std::vector<float>& row) {
  float m = 1e-5f;
  for (const float value : row) m = std::max(m, std::fabs(value));
  Quantized out{.q = std::vector<int8_t>(static_cast<size_t>(round_up(std::ssize(row), 16))),
                .scale = 127.0f / m,
                .sum = 0};
  for (size_t i = 0; i < row.size(); ++i) {
    out.q[i] = static_cast<int8_t>(std::clamp(std::nearbyint(row[i] * out.scale), -128.0f, 127.0f));
    out.sum += out.q[i];
  }
  return out;
}

void expect_definition(const KernelTable& table, const std::vector<float>& row) {
  const Quantized actual = quantize(table, row), expected = by_definition(row);
  EXPECT_EQ(actual.q, expected.q);
  EXPECT_EQ(bits_of(actual.scale), bits_of(expected.scale));
  EXPECT_EQ(actual.sum, expected.sum);
}

class Quantize : public KernelTest {};
BITNET_TEST_EVERY_TABLE(Quantize);

TEST_P(Quantize, FollowsTheDefinitionForEveryLength) {
  Random random(1);
  for (int64_t cols = 1; cols <= 150; ++cols) {
    for (const float range : {1e-7f, 1.0f, 3e4f, 3e38f}) {
      std::vector<float> row(static_cast<size_t>(cols));
      for (float& value : row) value = range * uniform(random, -1, 1);
      expect_definition(table(), row);
    }
  }
}

TEST_P(Quantize, FollowsTheDefinitionForModelRows) {
  Random random(2);
  for (const int64_t cols : {2560, 6912, 8640}) {
    std::vector<float> row(static_cast<size_t>(cols));
    for (float& value : row) value = std::normal_distribution<float>(0, 3)(random);
    expect_definition(table(), row);
  }
}

TEST_P(Quantize, RoundsHalfToEven) {
  // With a maximum of 127 the factor is 1 and every half is a tie.
  std::vector<float> row = {127.0f};
  std::vector<int8_t> expected = {127};
  for (int i = -126; i < 126; ++i) {
    row.push_back(static_cast<float>(i) + 0.5f);
    expected.push_back(static_cast<int8_t>(i % 2 == 0 ? i : i + 1));
  }
  Quantized actual = quantize(table(), row);
  actual.q.resize(expected.size());
  EXPECT_EQ(actual.q, expected);
}

TEST_P(Quantize, NeverLeavesTheRangeWhateverTheMaximum) {
  Random random(3);
  for (int i = 0; i < 20000; ++i) {
    const float m = std::ldexp(uniform(random, 1, 2), static_cast<int>(random() % 200) - 80);
    const Quantized actual = quantize(table(), {m, -m});
    if (m < 1e-5f) continue;
    ASSERT_EQ(actual.q[0], 127) << m;
    ASSERT_EQ(actual.q[1], -127) << m;
  }
}

TEST_P(Quantize, ZerosAndTinyValuesTakeTheFloor) {
  expect_definition(table(), std::vector<float>(33, 0.0f));
  expect_definition(table(), std::vector<float>(33, -0.0f));
  expect_definition(table(), {1e-40f, -1e-40f, std::numeric_limits<float>::denorm_min(), 0.0f});
  expect_definition(table(), {4e-8f, 9.99e-6f, -1e-5f});
  EXPECT_EQ(quantize(table(), {0.0f}).scale, 127.0f / 1e-5f);
}

TEST_P(Quantize, RowsThatAreNotFiniteGiveZerosAndAScaleThatMakesProductsNan) {
  for (size_t place : {0u, 5u, 16u, 36u}) {
    for (const float bad : {kNaN, -kNaN, kInfinity, -kInfinity}) {
      std::vector<float> row(37, 2.5f);
      row[place] = bad;
      const Quantized actual = quantize(table(), row);
      EXPECT_EQ(actual.q, std::vector<int8_t>(48, 0));
      EXPECT_EQ(actual.sum, 0);
      EXPECT_EQ(std::isnan(actual.scale), std::isnan(bad));
      EXPECT_TRUE(std::isnan(static_cast<float>(actual.sum) * (1.0f / actual.scale)));
      EXPECT_EQ(bits_of(actual.scale), bits_of(quantize(scalar_table(), row).scale));
    }
  }
}

TEST_P(Quantize, SeveralTokensKeepTheirRowsApart) {
  constexpr int64_t kTokens = 5, kCols = 21, kStride = 64;
  Random random(4);
  GuardedArray<float> x((kTokens - 1) * 30 + kCols);
  fill_uniform(random, x.span(), -4, 4);
  GuardedArray<int8_t> q(kTokens * kStride, true);
  q.fill(kUntouched);
  std::vector<float> scale(kTokens);
  std::vector<int32_t> sum(kTokens);
  table().quantize({.x = x.data(),
                    .x_stride = 30,
                    .tokens = kTokens,
                    .cols = kCols,
                    .q = q.data(),
                    .q_stride = kStride,
                    .scale = scale.data(),
                    .sum = sum.data()});
  for (int64_t t = 0; t < kTokens; ++t) {
    const Quantized expected = by_definition({x.data() + t * 30, x.data() + t * 30 + kCols});
    EXPECT_TRUE(same_bits<int8_t>({q.data() + t * kStride, 32}, expected.q));
    EXPECT_EQ(scale[static_cast<size_t>(t)], expected.scale);
    EXPECT_EQ(sum[static_cast<size_t>(t)], expected.sum);
    for (int64_t i = 32; i < kStride; ++i) EXPECT_EQ(q[t * kStride + i], kUntouched);
  }
}

TEST_P(Quantize, OfANormedRowIsNormThenQuantize) {
  Random random(5);
  for (const int64_t cols : {1, 15, 16, 17, 100, 2560, 6912}) {
    for (const float outlier : {1.0f, 1e4f, kInfinity, kNaN}) {
      GuardedArray<float> x(cols), weight(cols), normed(cols);
      for (int64_t i = 0; i < cols; ++i)
        x.data()[i] = uniform(random, -3, 3), weight.data()[i] = uniform(random, -1, 2);
      x.data()[cols / 2] *= outlier;
      table().rms_norm({.x = x.data(),
                        .tokens = 1,
                        .cols = cols,
                        .weight = weight.data(),
                        .eps = 1e-5f,
                        .y = normed.data()});
      const Quantized expected = quantize(table(), std::vector<float>(normed.data(), normed.data() + cols));
      GuardedArray<int8_t> q(round_up(cols, 16));
      float scale = -1;
      int32_t sum = -1;
      table().norm_quantize({.x = x.data(),
                             .cols = cols,
                             .weight = weight.data(),
                             .eps = 1e-5f,
                             .q = q.data(),
                             .scale = &scale,
                             .sum = &sum});
      EXPECT_TRUE(std::equal(expected.q.begin(), expected.q.end(), q.data()));
      EXPECT_EQ(bits_of(scale) & 0x7fc00000u, bits_of(expected.scale) & 0x7fc00000u);
      EXPECT_TRUE(std::isnan(scale) || bits_of(scale) == bits_of(expected.scale));
      EXPECT_EQ(sum, expected.sum);
    }
  }
}

}  // namespace
}  // namespace bitnet::kernels
