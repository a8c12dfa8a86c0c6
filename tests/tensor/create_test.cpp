#include "bitnet/tensor/create.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;

TEST(Create, FillsEveryPlainType) {
  for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(zeros({3, 5}, dtype).at({2, 4}), 0) << to_string(dtype);
    EXPECT_EQ(ones({7}, dtype).at({6}), 1) << to_string(dtype);
    EXPECT_EQ(eye(2, 3, dtype).at({1, 1}), 1) << to_string(dtype);
    EXPECT_EQ(scalar(1, dtype).item(), 1) << to_string(dtype);
  }
  EXPECT_EQ(zeros({5}, DType::kTernary).at({4}), 0);
  EXPECT_EQ(zeros({5}, DType::kInt4).nbytes(), 3);
  EXPECT_THROW((void)zeros({8}, DType::kBinary), Error);
  EXPECT_THROW((void)full({1}, 300, DType::kU8), Error);
  EXPECT_THROW((void)full({1}, std::nan(""), DType::kI32), Error);
  EXPECT_THROW((void)full({1}, 0x1p63, DType::kI64), Error);
  EXPECT_EQ(full({1}, -0x1p63, DType::kI64).item(), -0x1p63);
}

TEST(Create, RoundsOnceToHalf) {
  // Just above the midpoint between two f16 neighbours: f32 would round it to the midpoint first, then to
  // even.
  const double above = 1 + 0x1p-11 + 0x1p-40;
  EXPECT_EQ(full({1}, above, DType::kF16).item(), 1 + 0x1p-10);
  EXPECT_EQ(full({1}, 1 + 0x1p-11, DType::kF16).item(), 1);
  EXPECT_EQ(full({1}, -above, DType::kF16).item(), -1 - 0x1p-10);
  EXPECT_EQ(full({1}, 0x1p-24, DType::kF16).item(), 0x1p-24);
  EXPECT_EQ(full({1}, 0x1p-26, DType::kF16).item(), 0);
  EXPECT_TRUE(std::isinf(full({1}, 1e300, DType::kBF16).item()));
}

TEST(Create, ArangeCountsAsNumPyDoes) {
  EXPECT_THAT(to_vector<float>(arange(0, 1, 0.25)), ElementsAre(0, 0.25, 0.5, 0.75));
  EXPECT_THAT(to_vector<int64_t>(arange(5, 0, -2, DType::kI64)), ElementsAre(5, 3, 1));
  EXPECT_EQ(arange(3, 3).numel(), 0);
  EXPECT_EQ(arange(3, 1).numel(), 0);
  EXPECT_THROW((void)arange(0, 1, 0), Error);
  EXPECT_THROW((void)arange(0, INFINITY), Error);
}

TEST(Create, ImpossibleSizesAreErrors) {
  EXPECT_THROW((void)empty({int64_t{1} << 62, 8}), Error);
  EXPECT_THROW((void)empty({int64_t{1} << 61}, DType::kF64), Error);
  EXPECT_THROW((void)empty({-1}), Error);
  EXPECT_THROW((void)from_span<float>(std::vector<float>(3), Shape{2, 2}), Error);
}

// The known-answer tests of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
TEST(Random, PhiloxGivesItsPublishedNumbers) {
  EXPECT_THAT(philox({0, 0}, 0), ElementsAre(0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U));
  EXPECT_THAT(philox({~0ULL, ~0ULL}, ~0ULL), ElementsAre(0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU));
  EXPECT_THAT(philox({0x299f31d0a4093822ULL, 0x0370734413198a2eULL}, 0x85a308d3243f6a88ULL),
              ElementsAre(0xd16cfe09U, 0x94fdcceb, 0x5001e420U, 0x24126ea1U));
}

TEST(Random, DrawsDependOnSeedStreamAndIndexOnly) {
  const Tensor all = rand(Shape{1001}, {42, 1});
  const Tensor few = rand(Shape{7}, {42, 1});
  for (int64_t i = 0; i < 7; ++i) EXPECT_EQ(few.at({i}), all.at({i}));
  EXPECT_NE(rand(Shape{1}, {42, 2}).item(), few.at({0}));
  EXPECT_NE(rand(Shape{1}, {43, 1}).item(), few.at({0}));
}

TEST(Random, MomentsAreThoseOfTheDistributions) {
  constexpr int64_t kCount = 200000;
  const auto moments = [](const std::vector<double>& x) {
    double sum = 0, squares = 0;
    for (const double value : x) sum += value;
    const double mean = sum / static_cast<double>(x.size());
    for (const double value : x) squares += (value - mean) * (value - mean);
    return std::pair(mean, squares / static_cast<double>(x.size()));
  };
  const auto [uniform_mean, uniform_variance] =
      moments(to_vector<double>(rand(Shape{kCount}, {1, 0}, DType::kF64)));
  EXPECT_NEAR(uniform_mean, 0.5,
              5 * std::sqrt(1.0 / 12 / kCount));  // five standard errors; the seed is fixed
  EXPECT_NEAR(uniform_variance, 1.0 / 12, 0.002);
  const auto [mean, variance] = moments(to_vector<double>(randn(Shape{kCount}, {1, 0}, DType::kF64)));
  EXPECT_NEAR(mean, 0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(variance, 1, 5 * std::sqrt(2.0 / kCount));
  const Tensor dice = randint(Shape{6000}, 1, 7, {3, 0}, DType::kU8);
  std::array<int, 8> seen{};
  for (const uint8_t face : to_vector<uint8_t>(dice)) ++seen.at(face);
  EXPECT_EQ(seen[0] + seen[7], 0);
  for (size_t face = 1; face < 7; ++face) EXPECT_NEAR(seen[face], 1000, 5 * std::sqrt(1000 * 5.0 / 6));
  EXPECT_THROW((void)randint(Shape{1}, 3, 3, {}), Error);
  EXPECT_THROW((void)randint(Shape{1}, (int64_t{1} << 60) - 1, int64_t{1} << 60, {}), Error);
  EXPECT_THROW((void)rand(Shape{1}, {}, DType::kI32), Error);
}

}  // namespace
}  // namespace bitnet
