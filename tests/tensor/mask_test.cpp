#include "bitnet/tensor/mask.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/create.h"
#include "bitnet/tensor/sequence.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;

template <class Call>
ErrorCode code_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

/// Rows of x and . of a [rows, columns] mask, separated by spaces.
std::string picture(const Tensor& mask) {
  std::string text;
  for (int64_t row = 0; row < mask.size(0); ++row) {
    if (row > 0) text += ' ';
    for (int64_t column = 0; column < mask.size(1); ++column) {
      text += mask.at({row, column}) != 0 ? 'x' : '.';
    }
  }
  return text;
}

TEST(Mask, CausalLooksBack) {
  EXPECT_EQ(picture(causal_mask(4, 4)), "x... xx.. xxx. xxxx");
  // A cache of two keys before the queries.
  EXPECT_EQ(picture(causal_mask(2, 4)), "xxx. xxxx");
  // More queries than keys: the first stand before every key.
  EXPECT_EQ(picture(causal_mask(3, 2)), ".. x. xx");
  EXPECT_EQ(causal_mask(0, 0).numel(), 0);
  EXPECT_EQ(code_of([] { (void)causal_mask(-1, 2); }), ErrorCode::kInvalidArgument);
}

TEST(Mask, SlidingWindowReachesBothWays) {
  EXPECT_EQ(picture(sliding_window_mask(4, 4, 2)), "xx.. xxx. .xxx ..xx");
  EXPECT_EQ(picture(sliding_window_mask(2, 2, 0)), ".. ..");
  EXPECT_EQ(picture(sliding_window_mask(2, 2, std::numeric_limits<int64_t>::max())), "xx xx");
  EXPECT_EQ(code_of([] { (void)sliding_window_mask(2, 2, -1); }), ErrorCode::kInvalidArgument);
}

TEST(Mask, SlidingWindowAndCausalIsADecoders) {
  const Tensor mask = combine(causal_mask(2, 5), MaskOp::kAnd, sliding_window_mask(2, 5, 2));
  EXPECT_EQ(picture(mask), "..xx. ...xx");
}

TEST(Mask, BlocksKeepPackedSequencesApart) {
  EXPECT_EQ(picture(block_diagonal_mask(std::vector<int64_t>{2, 0, 1})), "xx. xx. ..x");
  EXPECT_EQ(block_diagonal_mask({}).numel(), 0);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(code_of([] {
              (void)block_diagonal_mask(std::vector<int64_t>{kMost, kMost});
            }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] {
              (void)block_diagonal_mask(std::vector<int64_t>{2, -1});
            }),
            ErrorCode::kInvalidArgument);
}

TEST(Mask, PaddingAndBidirectionalComeFromTokens) {
  const std::vector<TokenSequence> sequences = {{1, 2}, {3}};
  const Tensor tokens = pad(sequences, {}).mask;
  EXPECT_THAT(padding_mask(tokens).shape(), ElementsAre(2, 1, 2));
  EXPECT_TRUE(padding_mask(tokens).shares_storage(tokens));
  const Tensor both = bidirectional_mask(tokens);
  EXPECT_THAT(both.shape(), ElementsAre(2, 2, 2));
  EXPECT_EQ(picture(both.select(0, 0)), "xx xx");
  EXPECT_EQ(picture(both.select(0, 1)), "x. ..");
  const Tensor decoder = combine(padding_mask(tokens), MaskOp::kAnd, causal_mask(2, 2));
  EXPECT_EQ(picture(decoder.select(0, 0)), "x. xx");
  EXPECT_EQ(picture(decoder.select(0, 1)), "x. x.");
  EXPECT_EQ(code_of([] { (void)padding_mask(zeros({3}, DType::kBool)); }), ErrorCode::kShapeMismatch);
  EXPECT_EQ(code_of([] { (void)bidirectional_mask(zeros({3, 3})); }), ErrorCode::kDTypeMismatch);
}

TEST(Mask, CombinesByTruthTableWithBroadcasting) {
  const Tensor a = from_values({true, true, false, false}, {4});
  const Tensor b = from_values({true, false, true, false}, {4});
  EXPECT_THAT(to_vector<bool>(combine(a, MaskOp::kAnd, b)), ElementsAre(true, false, false, false));
  EXPECT_THAT(to_vector<bool>(combine(a, MaskOp::kOr, b)), ElementsAre(true, true, true, false));
  EXPECT_THAT(to_vector<bool>(combine(a, MaskOp::kXor, b)), ElementsAre(false, true, true, false));
  EXPECT_EQ(picture(combine(from_values({true, false}, {2, 1}), MaskOp::kXor, b.slice(0, 0, 4, 2))), ".. xx");
  EXPECT_EQ(code_of([&] { (void)combine(a, MaskOp::kOr, zeros({3}, DType::kBool)); }), ErrorCode::kBroadcast);
  EXPECT_EQ(code_of([&] { (void)combine(a, MaskOp::kOr, zeros({4})); }), ErrorCode::kDTypeMismatch);
  EXPECT_EQ(code_of([&] { (void)combine(Tensor(), MaskOp::kOr, a); }), ErrorCode::kDTypeMismatch);
}

TEST(Mask, StatisticsCountKeysOfEachQuery) {
  const MaskStatistics result = mask_statistics(causal_mask(4, 3));
  EXPECT_EQ(result.elements, 12);
  EXPECT_EQ(result.allowed, 6);
  EXPECT_EQ(result.queries, 4);
  EXPECT_EQ(result.blind_queries, 1);
  EXPECT_EQ(result.fewest, 0);
  EXPECT_EQ(result.most, 3);
  EXPECT_DOUBLE_EQ(result.density(), 0.5);
  // Of a view: transposed, keys are counted along the other axis.
  EXPECT_EQ(mask_statistics(causal_mask(4, 3).transpose(0, 1)).blind_queries, 0);
}

TEST(Mask, StatisticsOfEmptyMasks) {
  EXPECT_EQ(mask_statistics(zeros({0, 3}, DType::kBool)).fewest, 0);
  EXPECT_EQ(mask_statistics(zeros({3, 0}, DType::kBool)).blind_queries, 3);
  EXPECT_EQ(mask_statistics(zeros({0}, DType::kBool)).density(), 0);
  EXPECT_EQ(code_of([] { (void)mask_statistics(zeros({}, DType::kBool)); }), ErrorCode::kShapeMismatch);
}

}  // namespace
}  // namespace bitnet
