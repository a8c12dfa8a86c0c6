#include "bitnet/tensor/batching.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr BatchOrder kOrders[] = {BatchOrder::kAsGiven, BatchOrder::kShuffled, BatchOrder::kByLength,
                                  BatchOrder::kByLengthShuffled};

template <class Call>
ErrorCode code_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

std::vector<int64_t> random_lengths(size_t count) {
  std::mt19937 random(3);
  std::vector<int64_t> lengths(count);
  for (int64_t& length : lengths) length = static_cast<int64_t>(random() % 50);
  return lengths;
}

TEST(Batching, EverySequenceIsInOneBatchWithinTheLimits) {
  const std::vector<int64_t> lengths = random_lengths(200);
  for (const BatchOrder order : kOrders) {
    for (const BatchLimits limits : {BatchLimits{64}, BatchLimits{200, 3}, BatchLimits{100000}}) {
      const Batches batches = make_batches(lengths, limits, order, {5});
      std::vector<int64_t> all;
      for (const auto& batch : batches) {
        ASSERT_FALSE(batch.empty());
        int64_t longest = 0;
        for (const int64_t i : batch) longest = std::max(longest, lengths[static_cast<size_t>(i)]);
        EXPECT_LE(longest * static_cast<int64_t>(batch.size()), limits.max_tokens);
        EXPECT_LE(static_cast<int64_t>(batch.size()), limits.max_sequences);
        all.insert(all.end(), batch.begin(), batch.end());
      }
      std::ranges::sort(all);
      std::vector<int64_t> wanted(lengths.size());
      std::iota(wanted.begin(), wanted.end(), 0);
      EXPECT_EQ(all, wanted);
    }
  }
}

TEST(Batching, AsGivenAndByLengthAreGreedyInOrder) {
  const std::vector<int64_t> lengths = {5, 1, 4, 1};
  EXPECT_THAT(make_batches(lengths, {10}, BatchOrder::kAsGiven),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  EXPECT_THAT(make_batches(lengths, {10}, BatchOrder::kByLength),
              ElementsAre(ElementsAre(1, 3), ElementsAre(2, 0)));
  EXPECT_THAT(make_batches(lengths, {10, 1}, BatchOrder::kByLength),
              ElementsAre(ElementsAre(1), ElementsAre(3), ElementsAre(2), ElementsAre(0)));
}

TEST(Batching, ALongSequenceEndsABatchOfShortOnes) {
  // Padded to 9, four sequences would be 36 tokens.
  EXPECT_THAT(make_batches(std::vector<int64_t>{1, 1, 1, 9}, {12}, BatchOrder::kAsGiven),
              ElementsAre(ElementsAre(0, 1, 2), ElementsAre(3)));
}

TEST(Batching, SortingByLengthSavesPadding) {
  const std::vector<int64_t> lengths = random_lengths(500);
  const auto efficiency = [&](BatchOrder order) {
    return padding_efficiency(lengths, make_batches(lengths, {512}, order, {1}));
  };
  EXPECT_GT(efficiency(BatchOrder::kByLength), 0.9);
  EXPECT_LT(efficiency(BatchOrder::kShuffled), 0.7);
  EXPECT_DOUBLE_EQ(padding_efficiency(std::vector<int64_t>{2, 4}, {{0, 1}}), 0.75);
  EXPECT_DOUBLE_EQ(padding_efficiency({}, {}), 1);
  EXPECT_EQ(code_of([] { (void)padding_efficiency(std::vector<int64_t>{2}, {{1}}); }),
            ErrorCode::kOutOfRange);
}

TEST(Batching, TheKeyAloneDecidesTheOrder) {
  const std::vector<int64_t> lengths = random_lengths(100);
  for (const BatchOrder order : {BatchOrder::kShuffled, BatchOrder::kByLengthShuffled}) {
    const Batches once = make_batches(lengths, {128}, order, {5, 1});
    EXPECT_EQ(once, make_batches(lengths, {128}, order, {5, 1}));
    EXPECT_NE(once, make_batches(lengths, {128}, order, {6, 1}));
    EXPECT_NE(once, make_batches(lengths, {128}, order, {5, 2}));
  }
}

TEST(Batching, EmptySequencesAndNoSequences) {
  for (const BatchOrder order : kOrders) {
    EXPECT_THAT(make_batches({}, {}, order), IsEmpty());
    EXPECT_EQ(make_batches(std::vector<int64_t>{0, 0, 0}, {1}, order).size(), 1u);
  }
}

TEST(Batching, RefusesWhatCannotBe) {
  const std::vector<int64_t> lengths = {3, 5};
  EXPECT_EQ(code_of([&] { (void)make_batches(lengths, {4}); }), ErrorCode::kOutOfRange);
  EXPECT_EQ(code_of([&] { (void)make_batches(lengths, {0}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { (void)make_batches(lengths, {9, 0}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { (void)make_batches(std::vector<int64_t>{-1}, {9}); }), ErrorCode::kInvalidArgument);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(make_batches(std::vector<int64_t>{kMost, kMost}, {kMost}).size(), 2u);
}

TEST(Permutation, HoldsEveryIndexAndIsUniform) {
  constexpr int kRounds = 6000;
  std::array<int, 6> seen{};  // the permutations of three, by their first two
  for (uint64_t seed = 0; seed < kRounds; ++seed) {
    const std::vector<int64_t> order = random_permutation(3, {seed});
    std::vector<int64_t> sorted = order;
    std::ranges::sort(sorted);
    ASSERT_THAT(sorted, ElementsAre(0, 1, 2));
    ++seen[static_cast<size_t>(order[0] * 2 + (order[1] > order[2] ? 1 : 0))];
  }
  // Binomial with p = 1/6: standard deviation 29; 5 of them.
  for (const int count : seen) EXPECT_NEAR(count, kRounds / 6, 145);
  EXPECT_THAT(random_permutation(0, {}), IsEmpty());
  EXPECT_EQ(code_of([] { (void)random_permutation(-1, {}); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace bitnet
