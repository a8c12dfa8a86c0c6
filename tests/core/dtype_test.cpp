#include "bitnet/core/dtype.h"

#include "bitnet/core/device.h"
#include "bitnet/core/error.h"

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr int kCount = static_cast<int>(DType::kIQ2_BN) + 1;

TEST(DType, NamesAreUniqueAndParseBackWhateverTheCase) {
  for (int i = 0; i < kCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(to_string(dtype)), dtype);
  }
  EXPECT_EQ(dtype_from_name("TQ1_0"), DType::kTQ1_0);
  EXPECT_EQ(dtype_from_name("tl1"), std::nullopt);
}

TEST(DType, StorageBytesAreTrue) {
  const auto bytes = [](DType dtype, Shape shape) { return storage_bytes(dtype, shape); };
  EXPECT_EQ(bytes(DType::kF32, {3, 5}), 60);
  EXPECT_EQ(bytes(DType::kF32, {}), 4);
  EXPECT_EQ(bytes(DType::kF32, {0, 5}), 0);
  EXPECT_EQ(bytes(DType::kI2_S, {4, 128}), 128 + 32);
  EXPECT_EQ(bytes(DType::kI2_S, {2, 8640}), 8640 / 2 + 32);  // rows that are no multiple of 128 lie flat
  EXPECT_EQ(bytes(DType::kTQ1_0, {2, 512}), 4 * 54);
  EXPECT_EQ(bytes(DType::kTQ2_0, {2, 512}), 4 * 66);
  EXPECT_EQ(bytes(DType::kIQ2_BN, {3, 128}), 3 * (4 + 32));
  EXPECT_EQ(bytes(DType::kHfTernary, {8, 10}), 20);
  EXPECT_EQ(bytes(DType::kQ6_K, {2, 256}), 420);
}

TEST(DType, RowLengthsThatDoNotFitAreRefusedByName) {
  for (const auto& [dtype, shape] : {std::pair{DType::kTQ1_0, Shape{2, 128}},
                                     {DType::kI2_S, Shape{1, 100}},
                                     {DType::kQ6_K, Shape{4, 128}},
                                     {DType::kHfTernary, Shape{6, 128}}}) {
    try {
      (void)storage_bytes(dtype, shape);
      FAIL() << to_string(dtype);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_NE(error.message().find(to_string(dtype)), std::string::npos);
    }
  }
}

TEST(DType, OverflowAndNegativeDimensionsAreCorrupt) {
  const int64_t huge = std::numeric_limits<int64_t>::max() / 2;
  EXPECT_THROW((void)element_count(Shape{huge, 4}), Error);
  EXPECT_THROW((void)storage_bytes(DType::kF32, Shape{huge}), Error);
  EXPECT_THROW((void)element_count(Shape{-1, 4}), Error);
  EXPECT_EQ(to_string(Shape{2, 3}), "[2, 3]");
}

TEST(DType, PromotionIsCommutativeAndHoldsBothRanges) {
  const auto last = static_cast<int>(DType::kBool);
  for (int i = 0; i <= last; ++i) {
    for (int j = 0; j <= last; ++j) {
      const auto a = static_cast<DType>(i), b = static_cast<DType>(j);
      const DType joined = promote_types(a, b);
      EXPECT_EQ(joined, promote_types(b, a));
      EXPECT_EQ(promote_types(joined, a), joined) << to_string(a) << " " << to_string(b);
      if (is_floating(a) || is_floating(b)) {
        EXPECT_TRUE(is_floating(joined));
      } else if (joined != DType::kF64) {
        EXPECT_LE(value_range(joined).lowest, std::min(value_range(a).lowest, value_range(b).lowest));
        EXPECT_GE(value_range(joined).highest, std::max(value_range(a).highest, value_range(b).highest));
      }
    }
  }
  EXPECT_EQ(promote_types(DType::kF16, DType::kBF16), DType::kF32);
  EXPECT_EQ(promote_types(DType::kU8, DType::kI8), DType::kI16);
  EXPECT_EQ(promote_types(DType::kU64, DType::kI8), DType::kF64);
  EXPECT_EQ(promote_types(DType::kI64, DType::kF16), DType::kF16);
  EXPECT_THROW((void)promote_types(DType::kTernary, DType::kF32), Error);
}

TEST(DType, KnowsWhatPackedTypesReallyStore) {
  EXPECT_EQ(bits_per_element(DType::kTernary), 2);
  EXPECT_EQ(bits_per_element(DType::kBinary), 1);
  EXPECT_EQ(bits_per_element(DType::kInt4), 4);
  EXPECT_EQ(bits_per_element(DType::kF16), 16);
  EXPECT_EQ(value_range(DType::kF16).highest, 65504);
  EXPECT_EQ(value_range(DType::kInt4).lowest, -8);
  EXPECT_THROW((void)value_range(DType::kQ6_K), Error);
}

TEST(Device, NamesGoBothWays) {
  for (const Device device : {kCpuDevice, Device{DeviceType::kPinned, 0}, Device{DeviceType::kCuda, 3}}) {
    EXPECT_EQ(device_from_string(to_string(device)), device);
  }
  EXPECT_EQ(device_from_string("cuda"), (Device{DeviceType::kCuda, 0}));
  for (const char* bad : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cpu:1", "cuda:99999999999"}) {
    EXPECT_EQ(device_from_string(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace bitnet
