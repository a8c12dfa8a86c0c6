// What operations compute, by hand-made examples; the table, back ends and NumPy are tested beside it.
#include "bitnet/ops/ops.h"

#include "bitnet/core/error.h"
#include "bitnet/ops/convert.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;

template <class Call>
Error error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::kInternal, "nothing was thrown"};
}

TEST(Specification, LayerNormOfTwoByFour) {
  const Tensor x = from_values<float>({1, 2, 3, 4, 5, 6, 7, 8}, {2, 4});
  const Tensor y = layer_norm(x, {4}, ones({4}), zeros({4}), 1e-5);
  EXPECT_THAT(y.shape(), ElementsAre(2, 4));
  const std::vector<float> row = {-1.341636F, -0.447212F, 0.447212F, 1.341636F};
  std::vector<float> wanted = row;
  wanted.insert(wanted.end(), row.begin(), row.end());
  EXPECT_THAT(to_vector<float>(y), Pointwise(FloatNear(1e-6F), wanted));
}

TEST(Arithmetic, BroadcastsAndPromotes) {
  const Tensor a = from_values<int32_t>({1, 2, 3}, {3, 1});
  const Tensor b = from_values<float>({0.5F, 10}, {2});
  const Tensor y = a + b;
  EXPECT_EQ(y.dtype(), DType::kF32);
  EXPECT_THAT(to_vector<float>(y), ElementsAre(1.5F, 11, 2.5F, 12, 3.5F, 13));
  EXPECT_THAT(to_vector<int32_t>(a * 2), ElementsAre(2, 4, 6));
  EXPECT_EQ((a * 0.5).dtype(), DType::kF32);
}

TEST(Arithmetic, IntegersWrapAndDivideInFloats) {
  const Tensor low = from_values<int8_t>({-128, 127}, {2});
  EXPECT_THAT(to_vector<int8_t>(low - 1), ElementsAre(127, 126));
  EXPECT_THAT(to_vector<int8_t>(neg(low)), ElementsAre(-128, -127));
  EXPECT_THAT(to_vector<int8_t>(abs(low)), ElementsAre(-128, 127));
  EXPECT_THAT(to_vector<uint16_t>(square(from_values<uint16_t>({65535}, {1}))), ElementsAre(1));
  const Tensor quotient = from_values<int32_t>({1, -1, 0}, {3}) / from_values<int32_t>({2, 0, 0}, {3});
  EXPECT_EQ(quotient.at({0}), 0.5);
  EXPECT_EQ(quotient.at({1}), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(quotient.at({2})));
}

TEST(Arithmetic, RemainderTakesTheDivisorsSignAndIsZeroByZero) {
  const Tensor a = from_values<int32_t>({7, -7, 7, -7, 5, std::numeric_limits<int32_t>::min()}, {6});
  const Tensor b = from_values<int32_t>({3, 3, -3, -3, 0, -1}, {6});
  EXPECT_THAT(to_vector<int32_t>(a % b), ElementsAre(1, 2, -2, -1, 0, 0));
  EXPECT_EQ(mod(from_values<float>({-7.5F}, {1}), 2).at({0}), 0.5);
}

TEST(Arithmetic, IntegerPowersWrap) {
  const Tensor base = from_values<int32_t>({3, -1, 2, -1, 0}, {5});
  const Tensor exponent = from_values<int32_t>({4, -3, -1, -2, 0}, {5});
  EXPECT_THAT(to_vector<int32_t>(pow(base, exponent)), ElementsAre(81, -1, 0, 1, 1));
  EXPECT_THAT(to_vector<uint8_t>(pow(from_values<uint8_t>({3}, {1}), 6)), ElementsAre(217));  // 729 - 512
}

TEST(Arithmetic, InPlaceWritesTheOperandAndRefusesOthers) {
  Tensor x = from_values<float>({1, 2, 3, 4}, {2, 2});
  const Tensor view = x;
  add_(x, from_values<float>({10, 20}, {2}));
  EXPECT_THAT(to_vector<float>(view), ElementsAre(11, 22, 13, 24));
  Tensor turned = x.transpose(0, 1);
  add_(turned, x);  // reads under one layout what it writes under another
  EXPECT_THAT(to_vector<float>(x), ElementsAre(22, 35, 35, 48));
  Tensor integers = arange(0, 4, 1, DType::kI32);
  EXPECT_EQ(error_of([&] { add_(integers, ones({4})); }).code(), ErrorCode::kDTypeMismatch);
  EXPECT_EQ(error_of([&] { add_(x, ones({3, 2, 2})); }).code(), ErrorCode::kShapeMismatch);
  Tensor expanded = ones({1}).expand({4});
  EXPECT_EQ(error_of([&] { add_(expanded, ones({4})); }).code(), ErrorCode::kInvalidArgument);
}

TEST(Arithmetic, BoolsHaveNoSum) {
  const Tensor flags = zeros({2}, DType::kBool);
  const Error error = error_of([&] { (void)(flags + flags); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(error.hint(), HasSubstr("logical_or"));
}

TEST(Errors, NameOperationShapesAndTypes) {
  const Error error = error_of([] { (void)add(ones({2, 3}), ones({4}, DType::kI8)); });
  EXPECT_EQ(error.code(), ErrorCode::kBroadcast);
  EXPECT_EQ(error.operation(), "add");
  ASSERT_EQ(error.operands().size(), 2U);
  EXPECT_EQ(error.operands()[1].dtype, DType::kI8);
  EXPECT_THAT(error.report(), HasSubstr("operation: add f32[2, 3] i8[4]"));
  EXPECT_EQ(error_of([] { (void)exp(Tensor()); }).code(), ErrorCode::kInvalidTensor);
  EXPECT_EQ(error_of([] { (void)exp(zeros({4}, DType::kTernary)); }).code(), ErrorCode::kUnsupported);
}

TEST(Where, ChoosesAndBroadcasts) {
  const Tensor x = from_values<float>({-1, 2, -3}, {3});
  EXPECT_THAT(to_vector<float>(where(less(x, zeros({1})), zeros({1}), x)), ElementsAre(0, 2, 0));
}

TEST(Reduction, AnyAxesWithOrWithoutThem) {
  const Tensor x = arange(0, 24).reshape({2, 3, 4});
  EXPECT_EQ(sum(x).item(), 276);
  EXPECT_THAT(sum(x, {0, 2}).shape(), ElementsAre(3));
  EXPECT_THAT(to_vector<float>(sum(x, {0, 2})), ElementsAre(60, 92, 124));
  EXPECT_THAT(sum(x, {-1}, true).shape(), ElementsAre(2, 3, 1));
  EXPECT_THAT(to_vector<float>(mean(x.permute({2, 0, 1}), {1, 2})), ElementsAre(10, 11, 12, 13));
  EXPECT_EQ(error_of([&] { (void)sum(x, {0, -3}); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of([&] { (void)sum(x, {3}); }).code(), ErrorCode::kOutOfRange);
}

TEST(Reduction, SumsIntegersExactlyAndFloatsInDouble) {
  EXPECT_EQ(sum(full({1000}, 127, DType::kI8)).dtype(), DType::kI64);
  EXPECT_EQ(sum(full({1000}, 127, DType::kI8)).item(), 127000);
  EXPECT_EQ(sum(ones({7}, DType::kBool)).item(), 7);
  // In f32 the ones would vanish beside 2^24.
  Tensor x = ones({(1 << 20) + 1});
  x.data<float>()[0] = 0x1p24F;
  EXPECT_EQ(sum(x).item(), 0x1p24 + 0x1p20);
}

TEST(Reduction, ExtremesFindNaNAndTheFirst) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = from_values<float>({3, 1, 3, 1}, {4});
  EXPECT_EQ(argmax(x).item(), 0);
  EXPECT_EQ(argmin(x).item(), 1);
  const Tensor with_nan = from_values<float>({3, nan, 5, nan}, {4});
  EXPECT_EQ(argmax(with_nan).item(), 1);
  EXPECT_EQ(argmin(with_nan).item(), 1);
  EXPECT_TRUE(std::isnan(max(with_nan).item()));
  EXPECT_EQ(max(from_values<uint64_t>({~0ULL, 1}, {2})).item(), 0x1p64);
}

TEST(Reduction, OfNothing) {
  const Tensor none = zeros({0, 3});
  EXPECT_EQ(sum(none).item(), 0);
  EXPECT_EQ(prod(none).item(), 1);
  EXPECT_TRUE(std::isnan(mean(none).item()));
  EXPECT_TRUE(all(none).item() == 1 && any(none).item() == 0);
  EXPECT_THAT(sum(none, {0}).shape(), ElementsAre(3));
  EXPECT_EQ(max(none, {1}).numel(), 0);
  EXPECT_EQ(error_of([&] { (void)max(none, {0}); }).code(), ErrorCode::kInvalidArgument);
}

TEST(Reduction, SpreadMedianQuantile) {
  const Tensor x = from_values<float>({1, 2, 3, 4}, {4});
  EXPECT_FLOAT_EQ(static_cast<float>(var(x).item()), 1.25F);
  EXPECT_FLOAT_EQ(static_cast<float>(stddev(x, {}, 1).item()), std::sqrt(5.0F / 3));
  EXPECT_EQ(median(x).item(), 2.5);
  EXPECT_FLOAT_EQ(static_cast<float>(quantile(x, 0.9).item()), 3.7F);
  EXPECT_EQ(error_of([&] { (void)quantile(x, 1.5); }).code(), ErrorCode::kInvalidArgument);
  // Far from zero the squares' difference would lose all digits.
  EXPECT_EQ(var(add(x, 0x1p23)).item(), 1.25);
}

TEST(Rows, SoftmaxOfExtremesAndAlongOtherAxes) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor y = softmax(from_values<float>({1e30F, -inf, 1e30F}, {3}));
  EXPECT_THAT(to_vector<float>(y), ElementsAre(0.5F, 0, 0.5F));
  const Tensor x = arange(0, 6).reshape({3, 2});
  EXPECT_THAT(
      to_vector<float>(softmax(x, 0)),
      Pointwise(FloatNear(0), to_vector<float>(softmax(contiguous(x.transpose(0, 1))).transpose(0, 1))));
}

TEST(Rows, RopeTurnsAndTurnsBack) {
  const Tensor x = arange(0, 24).reshape({2, 3, 4});
  const Tensor there = rope(x, {.position = 7});
  const Tensor back = rope(there, {.position = 7, .inverse = true});
  EXPECT_THAT(to_vector<float>(back), Pointwise(FloatNear(2e-5F), to_vector<float>(x)));
  EXPECT_THAT(to_vector<float>(rope(x, {}).select(1, 0)),
              Pointwise(FloatNear(0), to_vector<float>(x.select(1, 0))));
  EXPECT_EQ(error_of([] { (void)rope(ones({2, 3})); }).code(), ErrorCode::kShapeMismatch);
}

TEST(Embedding, TakesRowsAndChecksIndices) {
  const Tensor table = arange(0, 6, 1, DType::kBF16).reshape({3, 2});
  const Tensor rows = embedding(table, from_values<int32_t>({2, 0}, {2, 1}));
  EXPECT_THAT(rows.shape(), ElementsAre(2, 1, 2));
  EXPECT_EQ(rows.at({0, 0, 1}), 5);
  const Error error = error_of([&] { (void)embedding(table, from_values<int32_t>({3}, {1})); });
  EXPECT_EQ(error.code(), ErrorCode::kOutOfRange);
  EXPECT_THAT(error.hint(), HasSubstr("0 to 2"));
  EXPECT_EQ(error_of([&] { (void)embedding(table, ones({2})); }).code(), ErrorCode::kDTypeMismatch);
}

}  // namespace
}  // namespace bitnet
