// How operations run: choice of back ends, fallback, strictness, numeric checks, metrics.
#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/memory/pool.h"
#include "bitnet/ops/backend.h"
#include "bitnet/ops/contraction.h"
#include "bitnet/ops/convert.h"
#include "bitnet/ops/metrics.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/create.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Supports everything that it is told to, and fails as it is told.
class Failing final : public Backend {
 public:
  static inline std::atomic<bool> enabled{false};
  static inline std::atomic<ErrorCode> code{ErrorCode::kBackend};
  [[nodiscard]] std::string_view name() const override { return "failing"; }
  [[nodiscard]] int priority() const override { return 1000; }
  [[nodiscard]] std::string_view supports(const OpCall&) const override {
    return enabled ? "" : "switched off";
  }
  [[nodiscard]] double estimate(const OpCall&) const override { return 1; }
  [[nodiscard]] double throughput() const override { return 1; }
  [[nodiscard]] int64_t workspace_bytes(const OpCall&) const override { return 1 << 20; }
  void run(OpCall& call) const override {
    std::fill_n(call.output.bytes(), call.output.nbytes(), std::byte{0xff});
    throw Error(code, "planted");
  }
};

class Context : public testing::Test {
 protected:
  static void SetUpTestSuite() { register_backend(std::make_unique<Failing>()); }
  void SetUp() override {
    Failing::enabled = true;
    Failing::code = ErrorCode::kBackend;
  }
  void TearDown() override { Failing::enabled = false; }

  /// Who computed an addition in this context.
  static std::string chosen(ExecutionContext context) {
    AccelerationMetrics metrics;
    context.metrics = &metrics;
    const ContextScope scope(context);
    (void)(ones({64}) + ones({64}));
    return metrics.backend_used;
  }
};

TEST_F(Context, AFailureIsRepeatedElsewhereLoggedAndCounted) {
  std::string log;
  set_log_callback([&](LogLevel, std::string_view message) { log += message; });
  const uint64_t before = fallback_count();
  EXPECT_EQ((ones({2}) + ones({2})).at({1}), 2);
  set_log_callback({}, LogLevel::kOff);
  EXPECT_EQ(fallback_count(), before + 1);
  EXPECT_THAT(log, HasSubstr("add: failing failed (planted); repeated with simd"));
}

TEST_F(Context, StrictForbidsIt) {
  ExecutionContext context;
  context.strict = true;
  const ContextScope scope(context);
  EXPECT_THROW((void)(ones({2}) + ones({2})), Error);
}

TEST_F(Context, AWrongArgumentIsNotTriedAgain) {
  Failing::code = ErrorCode::kOutOfRange;
  const uint64_t before = fallback_count();
  EXPECT_THROW((void)(ones({2}) + ones({2})), Error);
  EXPECT_EQ(fallback_count(), before);
}

TEST_F(Context, AnOverwrittenOperandIsNotComputedFromAgain) {
  Tensor x = ones({2});
  EXPECT_THROW(add_(x, ones({2})), Error);
}

TEST_F(Context, AForcedBackEndIsNeverReplaced) {
  ExecutionContext context;
  context.backend = "failing";
  {
    const ContextScope scope(context);
    EXPECT_THROW((void)(ones({2}) + ones({2})), Error);
  }
  context.backend = "scalar";
  EXPECT_EQ(chosen(context), "scalar");
  context.backend = "abacus";
  const ContextScope scope(context);
  try {
    (void)(ones({2}) + ones({2}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kConfiguration);
  }
}

TEST_F(Context, StrategiesRankByWhatTheyName) {
  Failing::enabled = false;
  ExecutionContext context;
  EXPECT_EQ(chosen(context), "simd");
  context.strategy = Strategy::kCustom;
  context.priorities = {{"scalar", 2}, {"simd", 1}};
  EXPECT_EQ(chosen(context), "scalar");
  // Measured here and now: without optimization the scalar loops may be the faster ones.
  std::map<std::string_view, double> rates;
  for (const Backend* backend : backends()) rates[backend->name()] = backend->throughput();
  const std::string fastest = rates["simd"] > rates["scalar"] ? "simd" : "scalar";
  for (const Strategy strategy :
       {Strategy::kBestPerformance, Strategy::kLowLatency, Strategy::kHighThroughput}) {
    context.strategy = strategy;
    EXPECT_EQ(chosen(context), fastest);
  }
  Failing::enabled = true;
  context.strategy = Strategy::kLowMemory;
  EXPECT_EQ(chosen(context), "simd");  // the other wants a workspace
}

TEST_F(Context, NobodyAbleIsAnErrorWithReasons) {
  Failing::enabled = false;
  ExecutionContext context;
  context.backend = "simd";
  const ContextScope scope(context);
  try {
    (void)sin(ones({2}, DType::kF64));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.message(), HasSubstr("simd: no kernel for this type"));
  }
}

TEST_F(Context, ItsDeviceIsWhereOperationsRun) {
  Failing::enabled = false;
  ExecutionContext context;
  context.device = kCpuDevice;
  {
    const ContextScope scope(context);
    EXPECT_EQ((ones({2}) + ones({2})).at({1}), 2);
  }
  context.device = Device{DeviceType::kCuda, 63};
  const ContextScope scope(context);
  try {
    (void)(ones({2}) + ones({2}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDevice);
    EXPECT_THAT(error.message(), HasSubstr("cuda:63"));
  }
}

TEST_F(Context, ScratchMemoryComesFromItsPool) {
  Failing::enabled = false;
  HybridMemoryPool pool;
  ExecutionContext context;
  context.workspace = &pool;
  context.threads = 1;
  {
    const ContextScope scope(context);
    EXPECT_EQ(conv1d(ones({1, 2, 10}), ones({3, 2, 3}), {}).at({0, 2, 4}), 6);
    EXPECT_EQ(median(arange(0, 9)).item(), 4);
  }
  EXPECT_EQ(pool.stats().allocations, 2);
  EXPECT_EQ(pool.stats().live_blocks, 0);

  HybridMemoryPool small({.limit_bytes = 4096});
  context.workspace = &small;
  const ContextScope scope(context);
  try {
    (void)median(arange(0, 10000));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
  }
}

TEST_F(Context, BitsOfEveryMachineAreLeftToBackEndsThatFixThem) {
  Failing::enabled = false;
  ExecutionContext context;
  context.determinism = Determinism::kEveryMachine;
  EXPECT_EQ(chosen(context), "simd");
  AccelerationMetrics metrics;
  context.metrics = &metrics;
  const ContextScope scope(context);
  (void)matmul(ones({64, 64}), ones({64, 64}));
  EXPECT_EQ(metrics.backend_used, "scalar");
  (void)sum(ones({64}));
  EXPECT_EQ(metrics.backend_used, "scalar");
  context.backend = "blas";
  try {
    (void)matmul(ones({64, 64}), ones({64, 64}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.message(), HasSubstr("blas: other bits on other machines"));
  }
}

// What simd computes under that switch has the oracle's bits: extremes, subnormals, NaN, halves of an ulp.
TEST(Determinism, WhatSimdMayComputeHasTheBitsOfScalar) {
  std::vector<float> special = {0.0F,
                                -0.0F,
                                1.0F,
                                -1.0F,
                                1e-45F,
                                -1e-45F,
                                1e-38F,
                                3.4e38F,
                                -3.4e38F,
                                6.1e-5F,
                                5.96e-8F,
                                65504.0F,
                                65520.0F,
                                std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity(),
                                0.1F,
                                3.0F,
                                1.0F / 3};
  special.resize(23, 1e-3F);
  // Every one with every other, then ordinary numbers.
  std::vector<float> left, right;
  for (const float x : special) {
    left.insert(left.end(), special.size(), x);
    right.insert(right.end(), special.begin(), special.end());
  }
  for (const auto& [values, seed] : {std::pair(&left, 1), std::pair(&right, 2)}) {
    const auto more = to_vector<float>(randn(Shape{1000}, {.seed = static_cast<uint64_t>(seed)}));
    values->insert(values->end(), more.begin(), more.end());
  }
  const Shape shape = {static_cast<int64_t>(left.size())};
  const Tensor a = from_span<float>(left, shape), b = from_span<float>(right, shape);
  const auto run = [](std::string_view backend, auto&& body) {
    ExecutionContext context;
    context.backend = backend;
    const ContextScope scope(context);
    return body();
  };
  int compared = 0;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    const Tensor x = to_dtype(a, dtype), y = to_dtype(b, dtype);
    for (const OpInfo& info : op_table()) {
      if (info.family != OpFamily::kElementwise || info.operands > 2) continue;
      const auto body = [&] { return info.operands == 2 ? binary(info.op, x, y) : unary(info.op, x); };
      ExecutionContext context;
      context.determinism = Determinism::kEveryMachine;
      context.backend = "simd";
      Tensor found;
      try {
        const ContextScope scope(context);
        found = body();
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ErrorCode::kUnsupported);
        continue;
      }
      const Tensor wanted = run("scalar", body);
      ++compared;
      for (int64_t i = 0; i < found.numel(); ++i) {
        const double p = found.at({i}), q = wanted.at({i});
        ASSERT_TRUE((std::isnan(p) && std::isnan(q)) || (p == q && std::signbit(p) == std::signbit(q)))
            << info.name << ' ' << to_string(dtype) << ' ' << x.at({i}) << ' ' << y.at({i}) << ": " << p
            << ' ' << q;
      }
    }
  }
  EXPECT_GE(compared, 30);
}

TEST_F(Context, NamesAreRegisteredOnce) {
  EXPECT_THROW(register_backend(std::make_unique<Failing>()), Error);
}

TEST(Numerics, ReportsWhatAnOperationMadeNotWhatItWasGiven) {
  ExecutionContext context;
  context.check_numerics = NumericsCheck::kReport;
  const ContextScope scope(context);
  EXPECT_EQ((ones({2}) + ones({2})).at({0}), 2);
  try {
    (void)log(zeros({3}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNumerical);
    EXPECT_EQ(error.operation(), "log");
  }
  EXPECT_TRUE(std::isinf(neg(full({1}, HUGE_VAL)).item()));
  Tensor x = full({2}, 3e38);
  EXPECT_THROW(add_(x, x), Error);
}

TEST(Numerics, PromotesSixteenBitsWhereAsked) {
  const Tensor x = full({3}, 60000, DType::kF16);
  EXPECT_TRUE(std::isinf((x + x).at({0})));
  ExecutionContext context;
  context.check_numerics = NumericsCheck::kPromote;
  const ContextScope scope(context);
  const Tensor y = x + x;
  EXPECT_EQ(y.dtype(), DType::kF32);
  EXPECT_EQ(y.at({0}), 2 * x.at({0}));
  EXPECT_EQ((x - x).dtype(), DType::kF16);
  EXPECT_THROW((void)(full({1}, 3e38, DType::kBF16) * 100), Error);  // f32 cannot hold it either
}

TEST(Metrics, AreMeasured) {
  AccelerationMetrics metrics;
  ExecutionContext context;
  context.metrics = &metrics;
  const ContextScope scope(context);
  (void)(ones({1000}) + ones({1000}));
  EXPECT_EQ(metrics.memory_used_bytes, 3 * 4000);
  EXPECT_GT(metrics.execution_time_seconds, 0);
  EXPECT_DOUBLE_EQ(metrics.throughput_gflops(), 1000 / metrics.execution_time_seconds * 1e-9);
  EXPECT_GT(metrics.efficiency_score, 0);
  EXPECT_FALSE(metrics.cache_hit_rate.has_value());
}

TEST(ContextScope, Nests) {
  ExecutionContext outer, inner;
  outer.seed = 1;
  inner.seed = 2;
  const ContextScope a(outer);
  {
    const ContextScope b(inner);
    EXPECT_EQ(ExecutionContext::current().seed, 2U);
  }
  EXPECT_EQ(ExecutionContext::current().seed, 1U);
}

TEST(OperationTypes, Print) {
  EXPECT_EQ(to_string(OperationType::kMatMul), "MatMul");
  EXPECT_EQ(to_string(OperationType::kElementWise), "ElementWise");
  EXPECT_EQ(to_string(op_info(Op::kLayerNorm).type), "Normalization");
}

}  // namespace
}  // namespace bitnet
