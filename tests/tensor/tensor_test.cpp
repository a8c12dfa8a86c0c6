#include "bitnet/core/error.h"
#include "bitnet/memory/failure.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Tensor, AnUndefinedOneSaysSoInsteadOfCrashing) {
  const Tensor x;
  EXPECT_FALSE(x.defined());
  EXPECT_EQ(x.numel(), 0);
  EXPECT_EQ(to_string(x), "undefined tensor");
  EXPECT_THROW((void)x.data<float>(), Error);
  EXPECT_THROW((void)x.at({0}), Error);
  EXPECT_THROW((void)x.reshape({0}), Error);
  EXPECT_THROW((void)x.squeeze(), Error);
  EXPECT_THROW((void)clone(x), Error);
}

TEST(Tensor, ChecksThatItsElementsLieWithinTheStorage) {
  const StorageRef storage = StorageRef::allocate(24);
  const auto make = [&](Shape shape, std::vector<int64_t> strides, int64_t offset) {
    return Tensor(storage, DType::kF32, shape, strides, offset);
  };
  EXPECT_NO_THROW((void)make({2, 3}, {3, 1}, 0));
  EXPECT_NO_THROW((void)make({6}, {-1}, 5));
  EXPECT_NO_THROW((void)make({0, 100}, {1, 1}, 0));
  EXPECT_THROW((void)make({2, 3}, {3, 1}, 1), Error);
  EXPECT_THROW((void)make({6}, {-1}, 4), Error);
  EXPECT_THROW((void)make({7}, {1}, 0), Error);
  EXPECT_THROW((void)make({2}, {INT64_MAX}, 5), Error);
  EXPECT_THROW((void)make({3}, {INT64_MAX}, 0), Error);
  EXPECT_THROW((void)make({1}, {1}, INT64_MAX), Error);
  EXPECT_THROW((void)make({-1}, {1}, 0), Error);
  EXPECT_THROW((void)make({2}, {1, 1}, 0), Error);
  EXPECT_THROW((void)make(Shape(9, 1), std::vector<int64_t>(9, 1), 0), Error);
  EXPECT_THROW((void)Tensor(storage, DType::kQ6_K, Shape{1}, std::vector<int64_t>{1}), Error);
}

TEST(Tensor, DataIsTypedAndReadOnlyWhereTheStorageIs) {
  std::vector<float> values = {1, 2, 3};
  const StorageRef storage =
      StorageRef::borrow(reinterpret_cast<std::byte*>(values.data()), 12, {}, /*writable=*/false);
  Tensor x(storage, DType::kF32, Shape{3}, std::vector<int64_t>{1});
  EXPECT_EQ(std::as_const(x).data<float>()[2], 3);
  EXPECT_THROW((void)x.data<float>(), Error);
  EXPECT_THROW((void)std::as_const(x).data<int32_t>(), Error);
  Tensor mine = clone(x);
  mine.data<float>()[0] = 7;
  EXPECT_EQ(values[0], 1);
}

TEST(Tensor, BorrowedBytesLiveAsLongAsTheirOwner) {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{4, 5});
  const std::weak_ptr<std::vector<float>> watch = owner;
  Tensor x = view_of<float>(*owner, Shape{2}, owner);
  owner.reset();
  const Tensor part = x.narrow(0, 1, 1);
  x = Tensor();
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(part.item(), 5);
  EXPECT_TRUE(part.is_contiguous());
}

TEST(Tensor, CopyIntoFollowsStridesAndBroadcasts) {
  Tensor to = zeros({2, 3});
  copy_into(from_values<float>({1, 2, 3}, {3}), to);
  copy_into(from_values<float>({9}, {1}), to.slice(1, 0, 3, 2));
  EXPECT_THAT(to_vector<float>(to), ElementsAre(9, 2, 9, 9, 2, 9));
  EXPECT_THROW(copy_into(zeros({4}), to), Error);
  EXPECT_THROW(copy_into(zeros({3}, DType::kI32), to), Error);
}

TEST(Tensor, PrintsSmallOnesWhole) {
  EXPECT_EQ(to_string(from_values<int32_t>({1, 2, 3, 4}, {2, 2}).transpose(0, 1)),
            "i32[2, 2] cpu {1, 3, 2, 4}");
  EXPECT_EQ(to_string(zeros({100})), "f32[100] cpu");
}

TEST(Tensor, BroadcastsLikeNumPy) {
  EXPECT_THAT(broadcast_shapes(Shape{8, 1, 6, 1}, Shape{7, 1, 5}), ElementsAre(8, 7, 6, 5));
  EXPECT_THAT(broadcast_shapes(Shape{}, Shape{2}), ElementsAre(2));
  EXPECT_THAT(broadcast_shapes(Shape{0}, Shape{1}), ElementsAre(0));
  try {
    (void)broadcast_shapes(Shape{2, 3}, Shape{2, 4});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBroadcast);
    EXPECT_THAT(error.what(), HasSubstr("[2, 3] and [2, 4]"));
  }
  EXPECT_THROW((void)broadcast_shapes(Shape{0}, Shape{2}), Error);
}

TEST(Tensor, AFailedAllocationLeavesNothingBehind) {
  const auto work = [] {
    const Tensor x = arange(0, 24).reshape({2, 3, 4});
    const Tensor y = contiguous(x.transpose(0, 2));
    const Tensor z = clone(y.expand({5, 4, 3, 2}));
    (void)to_vector<float>(z.slice(0, 0, 5, 2));
  };
  EXPECT_EQ(fail_each_allocation(HybridMemoryPool::instance(), work), 4U);
}

}  // namespace
}  // namespace bitnet
