// Views against index arithmetic: whatever chain of views, element [i, j, ...] is the one that the chain
// names.
#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;

Tensor counting(std::initializer_list<int64_t> shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return arange(0, static_cast<double>(count), 1, DType::kI32).reshape(shape);
}

template <class Call>
ErrorCode code_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(View, ReshapeSharesBytesAndWorksOutOneSize) {
  const Tensor x = counting({2, 3, 4});
  const Tensor y = x.reshape({-1, 2});
  EXPECT_THAT(y.shape(), ElementsAre(12, 2));
  EXPECT_TRUE(y.shares_storage(x));
  EXPECT_EQ(y.at({11, 1}), 23);
  EXPECT_EQ(x.reshape({24, 1, 1}).at({5, 0, 0}), 5);
  EXPECT_EQ(code_of([&] { (void)x.reshape({5, -1}); }), ErrorCode::kShapeMismatch);
  EXPECT_EQ(code_of([&] { (void)x.reshape({-1, -1}); }), ErrorCode::kShapeMismatch);
  EXPECT_EQ(code_of([&] { (void)x.reshape({25}); }), ErrorCode::kShapeMismatch);
  EXPECT_EQ(code_of([&] {
              (void)x.reshape({int64_t{1} << 40, int64_t{1} << 40, -1});
            }),
            ErrorCode::kShapeMismatch);
}

TEST(View, ReshapeOfAPermutedTensorWorksWhereStridesAllowAndRefusesToCopy) {
  const Tensor x = counting({2, 3, 4}).permute({1, 0, 2});  // [3, 2, 4], strides 4, 12, 1
  const Tensor split = x.reshape({3, 2, 2, 2});
  EXPECT_EQ(split.at({2, 1, 1, 0}), x.at({2, 1, 2}));
  EXPECT_TRUE(split.shares_storage(x));
  EXPECT_EQ(code_of([&] { (void)x.reshape({6, 4}); }), ErrorCode::kShapeMismatch);
  EXPECT_EQ(contiguous(x).reshape({6, 4}).at({5, 3}), x.at({2, 1, 3}));
}

TEST(View, SliceFollowsPython) {
  const Tensor x = counting({10});
  struct Case {
    std::optional<int64_t> begin, end;
    int64_t step;
    std::vector<int32_t> wanted;
  };
  const Case cases[] = {
      {{}, {}, 1, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
      {2, 8, 3, {2, 5}},
      {-3, {}, 1, {7, 8, 9}},
      {{}, {}, -1, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
      {{}, {}, -4, {9, 5, 1}},
      {7, 2, -2, {7, 5, 3}},
      {-100, 100, 9, {0, 9}},
      {100, -100, -9, {9, 0}},
      {5, 5, 1, {}},
      {8, 2, 1, {}},
      {2, 8, -1, {}},
      {{}, {}, INT64_MIN, {9}},
      {{}, {}, INT64_MAX, {0}},
      {INT64_MIN, INT64_MAX, 5, {0, 5}},
  };
  for (const Case& c : cases) EXPECT_EQ(to_vector<int32_t>(x.slice(0, c.begin, c.end, c.step)), c.wanted);
  EXPECT_EQ(code_of([&] { (void)x.slice(0, 0, 5, 0); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { (void)x.slice(1, 0, 5); }), ErrorCode::kOutOfRange);
}

TEST(View, SqueezeUnsqueezeSelectNarrowExpand) {
  const Tensor x = counting({1, 3, 1, 2});
  EXPECT_THAT(x.squeeze().shape(), ElementsAre(3, 2));
  EXPECT_THAT(x.squeeze(-2).shape(), ElementsAre(1, 3, 2));
  EXPECT_EQ(code_of([&] { (void)x.squeeze(1); }), ErrorCode::kShapeMismatch);
  EXPECT_THAT(x.unsqueeze(4).shape(), ElementsAre(1, 3, 1, 2, 1));
  EXPECT_THAT(x.unsqueeze(-5).shape(), ElementsAre(1, 1, 3, 1, 2));
  EXPECT_TRUE(x.unsqueeze(2).is_contiguous());
  EXPECT_EQ(x.select(1, -1).at({0, 0, 1}), 5);
  EXPECT_EQ(code_of([&] { (void)x.select(1, 3); }), ErrorCode::kOutOfRange);
  EXPECT_EQ(code_of([&] { (void)x.narrow(1, 2, 2); }), ErrorCode::kOutOfRange);
  const Tensor wide = counting({3, 1}).expand({2, -1, 4});
  EXPECT_THAT(wide.shape(), ElementsAre(2, 3, 4));
  EXPECT_THAT(wide.strides(), ElementsAre(0, 1, 0));
  EXPECT_EQ(wide.at({1, 2, 3}), 2);
  EXPECT_EQ(code_of([&] { (void)wide.expand({2, 3, 5}); }), ErrorCode::kBroadcast);
}

TEST(View, EmptyTensorsHaveShapesAndNoElements) {
  const Tensor x = zeros({2, 0, 3});
  EXPECT_EQ(x.numel(), 0);
  EXPECT_THAT(x.reshape({0, 7}).shape(), ElementsAre(0, 7));
  EXPECT_TRUE(to_vector<float>(x.transpose(0, 2)).empty());
  EXPECT_THAT(x.narrow(0, 1, 1).shape(), ElementsAre(1, 0, 3));
}

TEST(View, RandomChainsKeepTheirElements) {
  std::mt19937 random(7);
  const auto draw = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (int trial = 0; trial < 300; ++trial) {
    Tensor x = counting({4, 3, 5, 2});
    std::vector<int32_t> wanted = to_vector<int32_t>(x);  // by explicit copies at each step
    for (int step = 0; step < 4; ++step) {
      const int axis = static_cast<int>(draw(x.ndim()));
      const Tensor dense = from_span<int32_t>(wanted, x.shape());
      const int64_t kind = draw(4), size = x.size(axis);
      const int64_t stride = draw(2) == 0 ? 1 + draw(2) : -1 - draw(2), other = draw(x.ndim());
      const auto apply = [&](const Tensor& t) {
        if (kind == 0) return t.transpose(axis, static_cast<int>(other));
        if (kind == 1) return t.slice(axis, std::nullopt, std::nullopt, stride);
        if (kind == 2 && size > 1) return t.narrow(axis, 1, size - 1);
        return t.ndim() < 6 ? t.unsqueeze(axis) : t.squeeze();
      };
      x = apply(x);
      wanted = to_vector<int32_t>(clone(apply(dense)));
    }
    ASSERT_EQ(to_vector<int32_t>(x), wanted) << to_string(x.shape());
  }
}

TEST(View, PackedTypesAreCutAtBytesOnly) {
  Tensor x = zeros({4, 8}, DType::kTernary);
  x.bytes()[2] = std::byte{0b10'01'00'10};  // row 1: +1 -1 0 +1
  EXPECT_EQ(x.nbytes(), 8);
  EXPECT_EQ(x.at({1, 0}), 1);
  EXPECT_EQ(x.at({1, 1}), -1);
  EXPECT_EQ(x.narrow(0, 1, 2).at({0, 3}), 1);
  EXPECT_EQ(x.reshape({2, 16}).at({0, 9}), -1);
  EXPECT_EQ(code_of([&] { (void)x.transpose(0, 1); }), ErrorCode::kUnsupported);
  EXPECT_EQ(code_of([&] { (void)x.narrow(1, 0, 4); }), ErrorCode::kUnsupported);
  EXPECT_EQ(code_of([&] { (void)x.flatten().narrow(0, 1, 4); }), ErrorCode::kUnsupported);
}

TEST(View, QuantizedTensorsCarryTheirScales) {
  const Tensor x = from_span<int8_t>(std::vector<int8_t>{10, -20, 30, 40}, Shape{4});
  Tensor q(x.storage(), DType::kQInt8, x.shape(), x.strides());
  q = q.with_quantization({.scale = {0.5F, 2}, .zero_point = {0, 10}, .group_size = 2});
  EXPECT_EQ(q.at({1}), -10);
  EXPECT_EQ(q.at({2}), 40);
  EXPECT_EQ(code_of([&] { (void)q.slice(0, 1); }), ErrorCode::kUnsupported);
  EXPECT_EQ(code_of([&] { (void)q.with_quantization({.scale = {1}, .group_size = 2}); }),
            ErrorCode::kShapeMismatch);
  EXPECT_EQ(code_of([&] { (void)x.with_quantization({}); }), ErrorCode::kDTypeMismatch);
}

TEST(View, ViewsCountAsZeroCopyAndCopiesDoNot) {
  CopyTracker::reset();
  const Tensor x = counting({4, 6});   // one reshape
  const Tensor y = x.transpose(0, 1);  // one view
  (void)contiguous(x);                 // nothing to do
  (void)contiguous(y);                 // a copy of 96 bytes
  const CopyCounts totals = CopyTracker::totals();
  EXPECT_EQ(totals.operations, 4U);
  EXPECT_EQ(totals.copies, 1U);
  EXPECT_EQ(totals.copied_bytes, 96U);
  EXPECT_DOUBLE_EQ(totals.percentage(), 75);
  const auto entries = CopyTracker::per_operation();
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[0].operation, "contiguous");
  EXPECT_EQ(entries[0].counts.zero_copy(), 1U);
}

}  // namespace
}  // namespace bitnet
