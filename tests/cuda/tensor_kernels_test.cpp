// The GPU's tensor kernels against plain loops.
#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "cuda_test.h"
#include "kernels/cuda_tensor_table.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace bitnet::cuda {
namespace {

using Tensors = CudaTest;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float reference(ElementFunction function, float a, float b) {
  const auto rounded = [](double value) { return static_cast<float>(value); };
  switch (function) {
    case ElementFunction::kCopy:
      return a;
    case ElementFunction::kNegative:
      return -a;
    case ElementFunction::kAbsolute:
      return std::abs(a);
    case ElementFunction::kSquare:
      return a * a;
    case ElementFunction::kSqrt:
      return std::sqrt(a);
    case ElementFunction::kExp:
      return rounded(std::exp(static_cast<double>(a)));
    case ElementFunction::kLog:
      return rounded(std::log(static_cast<double>(a)));
    case ElementFunction::kRelu:
      return a < 0 ? 0 : a;
    case ElementFunction::kReluSquared:
      return a < 0 ? 0 : a * a;
    case ElementFunction::kSigmoid:
      return rounded(1 / (1 + std::exp(-static_cast<double>(a))));
    case ElementFunction::kTanh:
      return rounded(std::tanh(static_cast<double>(a)));
    case ElementFunction::kSilu:
      return rounded(a / (1 + std::exp(-static_cast<double>(a))));
    case ElementFunction::kGelu:
      return rounded(0.5 * a * std::erfc(-a * std::sqrt(0.5)));
    case ElementFunction::kAdd:
      return a + b;
    case ElementFunction::kSubtract:
      return a - b;
    case ElementFunction::kMultiply:
      return a * b;
    case ElementFunction::kDivide:
      return a / b;
    case ElementFunction::kPower:
      return rounded(std::pow(static_cast<double>(a), static_cast<double>(b)));
    case ElementFunction::kMinimum:
      return std::isnan(a) || a < b ? a : b;
    case ElementFunction::kMaximum:
      return std::isnan(a) || a > b ? a : b;
    case ElementFunction::kEqual:
      return a == b;
    case ElementFunction::kNotEqual:
      return a != b;
    case ElementFunction::kLess:
      return a < b;
    case ElementFunction::kLessEqual:
      return a <= b;
    case ElementFunction::kGreater:
      return a > b;
    case ElementFunction::kGreaterEqual:
      return a >= b;
  }
  return 0;
}

/// expf, logf, powf, tanhf and erfcf of CUDA err by at most 4 ulp (CUDA Programming Guide, appendix on
/// accuracy; powf is the worst); the formulas around them add less than 4 more.
constexpr float kRelativeError = 8 * 0x1p-23F;

/// [3, 5, 7] in all, the second operand a row repeated over the first axis and reversed along the last.
ElementArgs sample_args(ElementFunction function) {
  return {.function = function,
          .ndim = 3,
          .shape = {3, 5, 7},
          .count = 105,
          .out = {.strides = {35, 7, 1}},
          .in = {{.strides = {1, 21, 3}}, {.strides = {0, 7, -1}}}};
}

TEST_F(Tensors, ElementFunctionsFollowStridesAndBroadcast) {
  Random random(1);
  std::vector<float> a = random_floats(random, 105, -3, 3), b = random_floats(random, 35, -2, 2);
  a[4] = std::nanf("");
  a[50] = kInfinity;
  b[3] = 0;
  const DeviceBuffer da = to_device(a), db = to_device(b);
  for (int f = 0; f <= static_cast<int>(ElementFunction::kGreaterEqual); ++f) {
    ElementArgs args = sample_args(static_cast<ElementFunction>(f));
    DeviceBuffer out = filled<float>(105);
    args.out.data = out.data();
    args.in[0].data = const_cast<void*>(da.data());
    args.in[1].data = static_cast<float*>(const_cast<void*>(db.data())) + 6;
    run([&](Stream stream) { tensor_table().element(args, stream); });
    const std::vector<float> found = to_host<float>(out);
    for (int64_t i = 0; i < 105; ++i) {
      const int64_t x = i / 35, y = i / 7 % 5, z = i % 7;
      const float wanted = reference(args.function, a[static_cast<size_t>(x + y * 21 + z * 3)],
                                     b[static_cast<size_t>(y * 7 + 6 - z)]);
      const float got = found[static_cast<size_t>(i)];
      if (std::isnan(wanted)) {
        ASSERT_TRUE(std::isnan(got)) << f << " " << i;
      } else if (got != wanted) {
        ASSERT_NEAR(got, wanted, kRelativeError * std::max(std::abs(wanted), 0x1p-20F)) << f << " " << i;
      }
    }
  }
}

TEST_F(Tensors, HalfTypesRoundOnceToNearestEven) {
  Random random(2);
  const std::vector<float> values = random_floats(random, 1000, -70000, 70000);
  const DeviceBuffer source = to_device(values);
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    DeviceBuffer out = filled<uint16_t>(1000);
    const ElementArgs args = {.function = ElementFunction::kCopy,
                              .ndim = 1,
                              .shape = {1000},
                              .count = 1000,
                              .out = {out.data(), dtype, {1}},
                              .in = {{const_cast<void*>(source.data()), DType::kF32, {1}}, {}}};
    run([&](Stream stream) { tensor_table().element(args, stream); });
    const auto found = to_host<uint16_t>(out);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(found[i], dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i])) << values[i];
    }
  }
}

/// Reduces a [a, b, c] tensor over its middle axis, or over all, by plain loops in f64.
TEST_F(Tensors, ReductionsOfEveryShapeAgreeWithPlainLoops) {
  struct Case {
    int64_t a, b, c;
    bool all;
  };
  const Case cases[] = {{1, 1, 1, false},     {3, 7, 5, false},     {2, 100000, 1, false},
                        {1, 33, 5000, false}, {4, 17, 4099, false}, {1, 1000003, 1, true},
                        {5, 0, 3, false},     {0, 4, 3, false}};
  Random random(3);
  for (const Case& c : cases) {
    const std::vector<float> values = random_floats(random, std::max<int64_t>(c.a * c.b * c.c, 1));
    const DeviceBuffer in = to_device(values);
    const int64_t outputs = c.a * c.c;
    for (const auto function :
         {ReduceFunction::kSum, ReduceFunction::kMean, ReduceFunction::kMaximum, ReduceFunction::kMinimum}) {
      DeviceBuffer out = filled<float>(std::max<int64_t>(outputs, 1));
      const ReduceArgs args = {.function = function,
                               .in = in.data(),
                               .out = out.data(),
                               .dtype = DType::kF32,
                               .kept_axes = 2,
                               .reduced_axes = 1,
                               .kept_shape = {c.a, c.c},
                               .kept_strides = {c.b * c.c, 1},
                               .reduced_shape = {c.b},
                               .reduced_strides = {c.c},
                               .outputs = outputs,
                               .reduced = c.b};
      run([&](Stream stream) { tensor_table().reduce(args, stream); });
      const auto found = to_host<float>(out);
      for (int64_t o = 0; o < outputs; ++o) {
        double sum = 0, low = kInfinity, high = -kInfinity;
        for (int64_t r = 0; r < c.b; ++r) {
          const double value = values[static_cast<size_t>((o / c.c * c.b + r) * c.c + o % c.c)];
          sum += value;
          low = std::min(low, value);
          high = std::max(high, value);
        }
        const double wanted = function == ReduceFunction::kSum       ? sum
                              : function == ReduceFunction::kMean    ? sum / static_cast<double>(c.b)
                              : function == ReduceFunction::kMaximum ? high
                                                                     : low;
        const float got = found[static_cast<size_t>(o)];
        if (std::isnan(wanted)) {
          ASSERT_TRUE(std::isnan(got));
        } else if (got != static_cast<float>(wanted)) {  // f64 sums differ by their order in bits far below
                                                         // an f32's; the last rounding may go
                                                         // either way
          ASSERT_NEAR(got, wanted, 0x1p-23 * std::max(std::abs(wanted), 1e-6)) << c.b << " " << o;
        }
      }
    }
  }
}

TEST_F(Tensors, ANanDecidesAReduction) {
  std::vector<float> values(40000, 1);
  values[23456] = std::nanf("");
  const DeviceBuffer in = to_device(values);
  DeviceBuffer out = filled<float>(1);
  for (const auto function : {ReduceFunction::kSum, ReduceFunction::kMaximum, ReduceFunction::kMinimum}) {
    const ReduceArgs args = {.function = function,
                             .in = in.data(),
                             .out = out.data(),
                             .dtype = DType::kF32,
                             .kept_axes = 0,
                             .reduced_axes = 1,
                             .reduced_shape = {40000},
                             .reduced_strides = {1},
                             .outputs = 1,
                             .reduced = 40000};
    run([&](Stream stream) { tensor_table().reduce(args, stream); });
    EXPECT_TRUE(std::isnan(to_host<float>(out)[0]));
  }
}

TEST_F(Tensors, MatrixProductsInEveryOrientation) {
  constexpr int64_t kM = 5, kN = 7, kK = 33, kBatch = 2;
  Random random(4);
  const std::vector<float> a = random_floats(random, kBatch * kM * kK),
                           b = random_floats(random, kBatch * kK * kN);
  const DeviceBuffer da = to_device(a), db = to_device(b);
  for (const bool at : {false, true}) {
    for (const bool bt : {false, true}) {
      DeviceBuffer out = filled<float>(kBatch * kM * kN);
      const MatmulArgs args = {.dtype = DType::kF32,
                               .m = kM,
                               .n = kN,
                               .k = kK,
                               .batch = kBatch,
                               .a = da.data(),
                               .b = db.data(),
                               .c = out.data(),
                               .a_transposed = at,
                               .b_transposed = bt,
                               .a_row = at ? kM : kK,
                               .b_row = bt ? kK : kN,
                               .c_row = kN,
                               .a_batch = kM * kK,
                               .b_batch = kK * kN,
                               .c_batch = kM * kN};
      run([&](Stream stream) { tensor_table().matmul(args, stream); });
      const auto found = to_host<float>(out);
      for (int64_t i = 0; i < kBatch * kM * kN; ++i) {
        const int64_t batch = i / (kM * kN), row = i / kN % kM, column = i % kN;
        double sum = 0, magnitude = 0;
        for (int64_t k = 0; k < kK; ++k) {
          const float x = a[static_cast<size_t>(batch * kM * kK + (at ? k * kM + row : row * kK + k))];
          const float y = b[static_cast<size_t>(batch * kK * kN + (bt ? column * kK + k : k * kN + column))];
          sum += static_cast<double>(x) * y;
          magnitude += std::abs(static_cast<double>(x) * y);
        }
        ASSERT_NEAR(found[static_cast<size_t>(i)], sum,
                    kK * 0x1p-24 * magnitude);  // k roundings of partial sums
      }
    }
  }
}

TEST_F(Tensors, OrderedMemoryIsUsedAgainAndGivenBack) {
  run([&](Stream stream) {
    void* first = tensor_table().allocate_ordered(1 << 20, stream);
    tensor_table().release_ordered(first, stream);
    void* second = tensor_table().allocate_ordered(1 << 20, stream);
    EXPECT_EQ(first, second);
    tensor_table().release_ordered(second, stream);
  });
  EXPECT_GE(tensor_table().trim_pool(0), 0);
  run([&](Stream stream) {
    EXPECT_THROW((void)tensor_table().allocate_ordered(size_t{1} << 50, stream), Error);
  });
}

}  // namespace
}  // namespace bitnet::cuda
