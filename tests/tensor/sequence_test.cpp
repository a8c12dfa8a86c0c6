#include "bitnet/tensor/sequence.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/create.h"

#include <algorithm>
#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

template <class Call>
ErrorCode code_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

const TokenSequence kSeven = {1, 2, 3, 4, 5, 6, 7};

TEST(Truncate, TakesAwayAtTheNamedSide) {
  EXPECT_THAT(truncate(kSeven, 3, Truncation::kLeft), ElementsAre(5, 6, 7));
  EXPECT_THAT(truncate(kSeven, 3, Truncation::kRight), ElementsAre(1, 2, 3));
  EXPECT_THAT(truncate(kSeven, 3, Truncation::kBothEnds), ElementsAre(3, 4, 5));
  EXPECT_THAT(truncate(kSeven, 4, Truncation::kBothEnds), ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(truncate(kSeven, 0, Truncation::kBothEnds), IsEmpty());
}

TEST(Truncate, LeavesWhatFitsAndRefusesWhatDoesNotWhereNothingMayGo) {
  for (const Truncation truncation :
       {Truncation::kNone, Truncation::kLeft, Truncation::kRight, Truncation::kBothEnds}) {
    EXPECT_EQ(truncate(kSeven, 7, truncation), kSeven);
    EXPECT_EQ(truncate(kSeven, std::numeric_limits<int64_t>::max(), truncation), kSeven);
    EXPECT_THAT(truncate({}, 0, truncation), IsEmpty());
    EXPECT_EQ(code_of([&] { (void)truncate(kSeven, -1, truncation); }), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(code_of([] { (void)truncate(kSeven, 6, Truncation::kNone); }), ErrorCode::kOutOfRange);
}

/// The definition: one token at a time, from the last of the longest.
std::vector<int64_t> fit_one_by_one(std::vector<int64_t> lengths, int64_t budget) {
  int64_t total = 0;
  for (const int64_t length : lengths) total += length;
  for (; total > budget; --total) {
    const auto last = std::max_element(lengths.rbegin(), lengths.rend());
    --*last;
  }
  return lengths;
}

TEST(Budget, EqualsTakingTokensOneByOneFromTheLongest) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<int64_t> lengths(random() % 6);
    int64_t total = 0;
    for (int64_t& length : lengths) total += length = static_cast<int64_t>(random() % 12);
    for (int64_t budget = 0; budget <= total + 1; ++budget) {
      ASSERT_EQ(fit_to_budget(lengths, budget), fit_one_by_one(lengths, budget))
          << testing::PrintToString(lengths) << " to " << budget;
    }
  }
}

TEST(Budget, TakesExtremesWithoutSums) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(fit_to_budget(std::vector<int64_t>{kMost, 3, kMost}, 10), ElementsAre(4, 3, 3));
  EXPECT_THAT(fit_to_budget(std::vector<int64_t>{}, 0), IsEmpty());
  EXPECT_EQ(code_of([] { (void)fit_to_budget(std::vector<int64_t>{-1}, 3); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { (void)fit_to_budget(std::vector<int64_t>{1}, -3); }), ErrorCode::kInvalidArgument);
}

TEST(Budget, CutsTheLongestSequencesFirst) {
  const std::vector<TokenSequence> pair = {{1, 2, 3}, kSeven};
  const auto cut = truncate_to_budget(pair, 7, Truncation::kRight);
  EXPECT_THAT(cut, ElementsAre(ElementsAre(1, 2, 3), ElementsAre(1, 2, 3, 4)));
  EXPECT_THAT(truncate_to_budget(pair, 7, Truncation::kLeft)[1], ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(code_of([&] { (void)truncate_to_budget(pair, 7, Truncation::kNone); }), ErrorCode::kOutOfRange);
  EXPECT_EQ(truncate_to_budget(pair, 10, Truncation::kNone), pair);
}

TEST(Pad, FillsOnTheChosenSideAndMasksTokens) {
  const std::vector<TokenSequence> sequences = {{1, 2}, {3}, {}};
  const PaddedBatch right = pad(sequences, {.pad_id = 9});
  EXPECT_THAT(right.ids.shape(), ElementsAre(3, 2));
  EXPECT_THAT(to_vector<int32_t>(right.ids), ElementsAre(1, 2, 3, 9, 9, 9));
  EXPECT_THAT(to_vector<bool>(right.mask), ElementsAre(true, true, true, false, false, false));
  EXPECT_THAT(right.lengths, ElementsAre(2, 1, 0));
  EXPECT_DOUBLE_EQ(right.efficiency(), 0.5);
  const PaddedBatch left = pad(sequences, {.side = Side::kLeft, .pad_id = 9});
  EXPECT_THAT(to_vector<int32_t>(left.ids), ElementsAre(1, 2, 9, 3, 9, 9));
  EXPECT_THAT(to_vector<bool>(left.mask), ElementsAre(true, true, false, true, false, false));
}

int64_t padded_to(std::vector<TokenSequence> sequences, const Padding& padding) {
  return pad(sequences, padding).ids.size(1);
}

TEST(Pad, EveryModeHasItsLength) {
  using To = Padding::To;
  const TokenSequence two = {1, 2};
  EXPECT_EQ(padded_to({two, two}, {.to = To::kNone}), 2);
  EXPECT_EQ(code_of([&] { (void)padded_to({two, kSeven}, {.to = To::kNone}); }), ErrorCode::kShapeMismatch);
  EXPECT_EQ(padded_to({two, kSeven}, {.to = To::kLongest}), 7);
  EXPECT_EQ(padded_to({two, kSeven}, {.to = To::kFixed, .length = 9}), 9);
  EXPECT_EQ(padded_to({two}, {.to = To::kMaxLength, .length = 9}), 2);
  EXPECT_EQ(padded_to({two, kSeven}, {.to = To::kMultiple, .length = 4}), 8);
  EXPECT_EQ(padded_to({kSeven}, {.to = To::kMultiple, .length = 7}), 7);
  EXPECT_EQ(padded_to({}, {.to = To::kLongest}), 0);
  EXPECT_EQ(padded_to({{}}, {.to = To::kMultiple, .length = 8}), 0);
}

TEST(Pad, TooLongIsCutOrRefusedAsTheTruncationSays) {
  using To = Padding::To;
  for (const To to : {To::kFixed, To::kMaxLength}) {
    const std::vector<TokenSequence> sequences = {kSeven, {8}};
    EXPECT_EQ(code_of([&] { (void)pad(sequences, {.to = to, .length = 3}); }), ErrorCode::kOutOfRange);
    const PaddedBatch batch = pad(sequences, {.to = to, .length = 3, .truncation = Truncation::kLeft});
    EXPECT_THAT(to_vector<int32_t>(batch.ids), ElementsAre(5, 6, 7, 8, 0, 0));
    EXPECT_THAT(batch.lengths, ElementsAre(3, 1));
  }
}

TEST(Pad, RefusesLengthsThatCannotBe) {
  using To = Padding::To;
  EXPECT_EQ(code_of([] { (void)padded_to({kSeven}, {.to = To::kMultiple}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { (void)padded_to({kSeven}, {.to = To::kFixed, .length = -1}); }),
            ErrorCode::kInvalidArgument);
  EXPECT_THROW(
      (void)padded_to({kSeven, kSeven}, {.to = To::kMultiple, .length = std::numeric_limits<int64_t>::max()}),
      Error);
}

TEST(Pad, UnpadGivesTheSequencesBackEvenWhereTheyHoldThePaddingId) {
  const std::vector<TokenSequence> sequences = {{0, 1, 0}, {}, {0}};
  for (const Side side : {Side::kLeft, Side::kRight}) {
    EXPECT_EQ(unpad(pad(sequences, {.to = Padding::To::kFixed, .length = 5, .side = side})), sequences);
  }
}

TEST(Strip, TakesTheRunAtOneSideOnly) {
  const TokenSequence ids = {0, 0, 5, 0, 6, 0};
  EXPECT_THAT(strip(ids, 0, Side::kLeft), ElementsAre(5, 0, 6, 0));
  EXPECT_THAT(strip(ids, 0, Side::kRight), ElementsAre(0, 0, 5, 0, 6));
  EXPECT_THAT(strip(TokenSequence{0, 0}, 0, Side::kLeft), IsEmpty());
  EXPECT_THAT(strip(TokenSequence{0, 0}, 0, Side::kRight), IsEmpty());
  EXPECT_THAT(strip({}, 0, Side::kRight), IsEmpty());
}

TEST(LengthStatistics, AreNumPys) {
  // numpy: x = [1, 2, 3, 4, 5, 6, 7, 8, 9, 100]; mean, std, percentile(x, [50, 90, 95, 99])
  const std::vector<int64_t> lengths = {100, 9, 8, 7, 6, 5, 4, 3, 2, 1};
  const LengthStatistics result = length_statistics(lengths);
  EXPECT_EQ(result.count, 10);
  EXPECT_EQ(result.total, 145);
  EXPECT_EQ(result.shortest, 1);
  EXPECT_EQ(result.longest, 100);
  EXPECT_DOUBLE_EQ(result.mean, 14.5);
  EXPECT_NEAR(result.deviation, 28.605069, 1e-6);
  EXPECT_DOUBLE_EQ(result.median, 5.5);
  EXPECT_NEAR(result.p90, 18.1, 1e-12);
  EXPECT_NEAR(result.p95, 59.05, 1e-12);
  EXPECT_NEAR(result.p99, 91.81, 1e-12);
  EXPECT_THAT(result.outliers, ElementsAre(0));
}

TEST(LengthStatistics, OfNoneAndOneLength) {
  EXPECT_EQ(length_statistics({}).count, 0);
  const LengthStatistics one = length_statistics(std::vector<int64_t>{4});
  EXPECT_EQ(one.p99, 4);
  EXPECT_EQ(one.deviation, 0);
  EXPECT_THAT(one.outliers, IsEmpty());
}

TEST(Percentile, BoundsAndErrors) {
  const std::vector<int64_t> values = {30, 10, 20};
  EXPECT_EQ(percentile(values, 0), 10);
  EXPECT_EQ(percentile(values, 100), 30);
  EXPECT_EQ(percentile(values, 75), 25);
  for (const double bad : {-1.0, 100.5, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_EQ(code_of([&] { (void)percentile(values, bad); }), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(code_of([] { (void)percentile({}, 50); }), ErrorCode::kInvalidArgument);
}

TEST(Validate, NamesEveryFaultySequenceAndTheFirstPosition) {
  const SequenceRules rules = {
      .min_length = 1, .max_length = 3, .lowest_id = 0, .highest_id = 9, .forbidden_ids = {4}};
  const std::vector<TokenSequence> sequences = {{0, 9}, {}, {1, 10, -1}, {4}, {1, 2, 3, 4}};
  const std::vector<SequenceFault> faults = validate(sequences, rules);
  ASSERT_EQ(faults.size(), 5u);
  EXPECT_EQ(faults[0].sequence, 1);
  EXPECT_EQ(faults[0].position, -1);
  EXPECT_EQ(faults[1].sequence, 2);
  EXPECT_EQ(faults[1].position, 1);
  EXPECT_THAT(faults[1].message, HasSubstr("id 10 at 1 must be in [0, 9]"));
  EXPECT_THAT(faults[2].message, HasSubstr("id 4 at 0 is forbidden"));
  EXPECT_EQ(faults[3].position, -1);  // both of the last: its length and its id
  EXPECT_EQ(faults[4].position, 3);
  EXPECT_THAT(validate(std::span(sequences).first(1), rules), IsEmpty());
}

TEST(Validate, RefusesRulesThatContradictThemselves) {
  EXPECT_EQ(code_of([] { (void)validate({}, {.min_length = 4, .max_length = 3}); }),
            ErrorCode::kConfiguration);
  EXPECT_EQ(code_of([] { (void)validate({}, {.lowest_id = 4, .highest_id = 3}); }),
            ErrorCode::kConfiguration);
}

}  // namespace
}  // namespace bitnet
