// Conversions between all types: exact where they can be, rounded once to nearest even where not.
#include "bitnet/ops/convert.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "bitnet/ops/context.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"
#include "cases.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;

ErrorCode code_of(const Tensor& x, DType dtype, const ConversionOptions& options = {}) {
  try {
    (void)to_dtype(x, dtype, options);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

Tensor f64(std::initializer_list<double> values) {
  return from_values<double>(values, {static_cast<int64_t>(values.size())});
}

TEST(Convert, ExactPairsComeBackFromEveryType) {
  std::mt19937 random(1);
  for (const DType from : ops::kPlainTypes) {
    const Tensor x = ops::random_tensor(std::vector<int64_t>{7, 9}, from, random);
    for (const DType to : ops::kPlainTypes) {
      if (!plan_conversion(x, to).exact) continue;
      const Tensor back = to_dtype(to_dtype(x, to), from);
      EXPECT_TRUE(all(equal(back, x)).item() == 1) << to_string(from) << " " << to_string(to);
    }
  }
}

TEST(Convert, EveryHalfSurvivesF32AndF64) {
  Tensor halves = empty({65536}, DType::kF16);
  auto* bits = reinterpret_cast<uint16_t*>(halves.bytes());
  for (int i = 0; i < 65536; ++i) bits[i] = static_cast<uint16_t>(i);
  for (const DType wide : {DType::kF32, DType::kF64}) {
    const Tensor back = to_dtype(to_dtype(halves, wide), DType::kF16);
    const auto* after = reinterpret_cast<const uint16_t*>(std::as_const(back).bytes());
    for (int i = 0; i < 65536; ++i) {
      const bool nan = std::isnan(f16_to_f32(bits[i]));
      ASSERT_TRUE(nan ? std::isnan(f16_to_f32(after[i])) : after[i] == bits[i]) << i;
    }
  }
}

TEST(Convert, RoundsOnceToNearestEven) {
  const double tie = 1 + 0x1p-11;  // between 1 and the next f16
  EXPECT_EQ(to_dtype(f64({tie}), DType::kF16).item(), 1);
  EXPECT_EQ(to_dtype(f64({tie + 0x1p-40}), DType::kF16).item(),
            1 + 0x1p-10);  // through f32 it would be a tie again
  EXPECT_EQ(to_dtype(f64({0x1p-25}), DType::kF16).item(), 0);
  EXPECT_EQ(to_dtype(f64({0x1.8p-25}), DType::kF16).item(), 0x1p-24);
  EXPECT_THAT(to_vector<int32_t>(to_dtype(f64({0.5, 1.5, 2.5, -0.5, -1.5}), DType::kI32)),
              ElementsAre(0, 2, 2, 0, -2));
  // 2^60 + 2^36 + 1 lies above the middle of two f32; as a double it would be the middle.
  const Tensor big = from_values<int64_t>({(1LL << 60) + (1LL << 36) + 1}, {1});
  EXPECT_EQ(to_dtype(big, DType::kF32).item(), 0x1p60 + 0x1p37);
  EXPECT_EQ(to_dtype(from_values<int64_t>({(1LL << 60) + (1LL << 52) + 1}, {1}), DType::kBF16).item(),
            0x1p60 + 0x1p53);
}

TEST(Convert, BeyondATypeThrowsOrSaturates) {
  const Tensor x = f64({300, -300, std::numeric_limits<double>::quiet_NaN(), HUGE_VAL});
  EXPECT_EQ(code_of(x, DType::kI8), ErrorCode::kOutOfRange);
  EXPECT_THAT(to_vector<int8_t>(to_dtype(x, DType::kI8, {.overflow = Overflow::kSaturate})),
              ElementsAre(127, -128, 0, 127));
  EXPECT_EQ(code_of(f64({0x1p63}), DType::kI64), ErrorCode::kOutOfRange);
  EXPECT_EQ(code_of(from_values<int32_t>({-1}, {1}), DType::kU64), ErrorCode::kOutOfRange);
  EXPECT_TRUE(std::isinf(to_dtype(f64({1e6}), DType::kF16).item()));
  EXPECT_EQ(code_of(f64({1}), DType::kQ8_0), ErrorCode::kUnsupported);
}

TEST(Convert, StochasticRoundingIsRightOnAverageAndRepeatable) {
  const Tensor x = full({20000}, 2.25, DType::kF64);
  const ConversionOptions options = {.rounding = Rounding::kStochastic, .seed = 7};
  const Tensor y = to_dtype(x, DType::kI32, options);
  EXPECT_EQ(min(y).item(), 2);
  EXPECT_EQ(max(y).item(), 3);
  EXPECT_NEAR(mean(y).item(), 2.25, 5 * 0.433 / std::sqrt(20000.0));  // five standard errors
  EXPECT_TRUE(all(equal(y, to_dtype(x, DType::kI32, options))).item() == 1);
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    const double step = dtype == DType::kF16 ? 0x1p-10 : dtype == DType::kBF16 ? 0x1p-7 : 0x1p-23;
    const Tensor z = to_dtype(full({20000}, -1 - step / 4, DType::kF64), dtype, options);
    EXPECT_EQ(max(z).item(), -1);
    EXPECT_EQ(min(z).item(), -1 - step);
    EXPECT_NEAR(mean(to_dtype(z, DType::kF64)).item(), -1 - step / 4, 5 * 0.433 * step / std::sqrt(20000.0));
    EXPECT_EQ(to_dtype(full({1}, 1.5, DType::kF64), dtype, options).item(), 1.5);  // nothing to round
  }
}

TEST(Convert, QuantizedTensorsStandForScaledValues) {
  const Quantization scales = {.scale = {0.5F, 2}, .zero_point = {}, .group_size = 3};
  const Tensor x = from_values<float>({-1, 0.6F, 100, 4, -6, 1}, {2, 3});
  const Tensor q = to_dtype(x, DType::kQInt8, {.quantization = scales});
  const Tensor back = to_dtype(q, DType::kF32);
  EXPECT_THAT(to_vector<float>(back),
              ElementsAre(-1, 0.5F, 63.5F, 4, -6, 0));  // 100 saturates; 1 / 2 ties to 0
  EXPECT_EQ(q.at({1, 1}), -6);
  const Tensor four = to_dtype(to_dtype(x * 0.1, DType::kInt4, {.quantization = scales}), DType::kQInt8);
  ASSERT_NE(four.quantization(), nullptr);
  EXPECT_EQ(four.quantization()->scale, scales.scale);  // codes and scales as they were
  const Quantization shifted = {.scale = {0.1F}, .zero_point = {10}};
  EXPECT_NEAR(to_dtype(to_dtype(f64({-1.2}), DType::kQInt8, {.quantization = shifted}), DType::kF64).item(),
              -1.2, 1e-7);
}

TEST(Convert, AScaleOfZeroMeansZero) {
  const Tensor q =
      to_dtype(f64({0, 3, HUGE_VAL}), DType::kQInt8, {.quantization = Quantization{.scale = {0}}});
  EXPECT_THAT(to_vector<double>(to_dtype(q, DType::kF64)), ElementsAre(0, 0, 0));
}

TEST(Convert, PackedTypesOfOddLengthsAndLayouts) {
  for (const int64_t n : {1, 3, 7, 8, 1023, 1025, 3001}) {
    const Tensor values =
        to_dtype(sub(mod(arange(0, static_cast<double>(n), 1, DType::kI32), 3), 1), DType::kF32);
    const Tensor reversed = values.slice(0, {}, {}, -1);
    const Tensor trits = to_dtype(reversed, DType::kTernary);
    EXPECT_TRUE(all(equal(to_dtype(trits, DType::kF32), reversed)).item() == 1) << n;
    const Tensor nibbles = to_dtype(trits, DType::kInt4);
    EXPECT_TRUE(all(equal(to_dtype(nibbles, DType::kI8), to_dtype(reversed, DType::kI8))).item() == 1) << n;
    const Tensor signs = to_dtype(values, DType::kBinary);
    EXPECT_EQ(sum(to_dtype(signs, DType::kI32)).item(),
              sum(where(less(values, zeros({1})), full({1}, -1), ones({1}))).item());
  }
  EXPECT_EQ(code_of(to_dtype(f64({5}), DType::kInt4), DType::kTernary), ErrorCode::kOutOfRange);
}

TEST(Convert, PlansWhatItDoes) {
  EXPECT_EQ(plan_conversion(ones({4}), DType::kF32).strategy, ConversionStrategy::kZeroCopy);
  EXPECT_EQ(plan_conversion(ones({4}), DType::kF32).bytes_written, 0);
  const ConversionPlan plain = plan_conversion(ones({4}), DType::kF16);
  EXPECT_EQ(plain.strategy, ConversionStrategy::kPlain);
  EXPECT_EQ(plain.bytes_read, 16);
  EXPECT_EQ(plain.bytes_allocated, 8);
  EXPECT_FALSE(plain.exact);
  EXPECT_GT(plain.least_seconds, 0);
  EXPECT_EQ(plan_conversion(ones({1 << 19}), DType::kF64).strategy, ConversionStrategy::kStreaming);
  EXPECT_EQ(to_string(ConversionStrategy::kStreaming), "streaming");
  Tensor x = ones({4});
  EXPECT_EQ(plan_conversion(x, DType::kI32, {.may_overwrite = true}).strategy, ConversionStrategy::kInPlace);
  const Tensor other = x;  // two owners: the bytes are not ours alone
  EXPECT_EQ(plan_conversion(x, DType::kI32, {.may_overwrite = true}).strategy, ConversionStrategy::kPlain);
  EXPECT_EQ(plan_conversion(ones({4}), DType::kF64, {.may_overwrite = true}).strategy,
            ConversionStrategy::kPlain);
}

TEST(Convert, InPlaceUsesTheSameBytesAndSharedOnesStay) {
  Tensor x = arange(0, 5000);
  const std::byte* bytes = std::as_const(x).bytes();
  const Tensor y = to_dtype(std::move(x), DType::kU16, {.may_overwrite = true});
  EXPECT_EQ(y.bytes(), bytes);
  EXPECT_EQ(y.at({4999}), 4999);
  EXPECT_EQ(y.at({1}), 1);
  const Tensor kept = ones({3});
  (void)to_dtype(kept, DType::kI32, {.may_overwrite = true});
  EXPECT_EQ(kept.at({0}), 1);
}

TEST(Convert, StreamingGivesWhatPlainGivesOnAnyThreads) {
  const Tensor x = sub(mod(arange(0, 700001, 1, DType::kI32), 1000), 500);
  const Tensor strided = x.slice(0, {}, {}, -1);
  ThreadPool pool(3);
  ExecutionContext context;
  context.pool = &pool;
  const ContextScope scope(context);
  const ConversionOptions options = {.rounding = Rounding::kStochastic, .seed = 3};
  const Tensor y = to_dtype(strided * 0.3, DType::kI16, options);
  EXPECT_EQ(plan_conversion(strided, DType::kI16).strategy, ConversionStrategy::kStreaming);
  ExecutionContext alone;
  alone.threads = 1;
  const ContextScope inner(alone);
  EXPECT_TRUE(all(equal(y, to_dtype(strided * 0.3, DType::kI16, options))).item() == 1);
}

TEST(Convert, CountsCopies) {
  CopyTracker::reset();
  const Tensor x = ones({10});
  (void)to_dtype(x, DType::kF32);
  (void)to_dtype(x, DType::kF16);
  const auto entries = CopyTracker::per_operation();
  const auto entry =
      std::find_if(entries.begin(), entries.end(), [](const auto& e) { return e.operation == "to_dtype"; });
  ASSERT_NE(entry, entries.end());
  EXPECT_EQ(entry->counts.operations, 2U);
  EXPECT_EQ(entry->counts.copied_bytes, 20U);
}

}  // namespace
}  // namespace bitnet
