// matmul, dot, outer, conv1d, conv2d: the scalar back end against sums written out here, BLAS against the
// scalar back end. A sum of n products in f32 is within n eps sum |a b| of the exact one whatever the order
// (Higham, section 3.1); BLAS, with fused multiply-adds and blocks, is well within.
#include "bitnet/ops/contraction.h"

#include "bitnet/core/error.h"
#include "bitnet/core/thread_pool.h"
#include "bitnet/ops/backend.h"
#include "bitnet/ops/blas.h"
#include "bitnet/ops/convert.h"
#include "bitnet/ops/metrics.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"
#include "ops/contraction/gemm.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class Call>
Error error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::kInternal, "nothing was thrown"};
}

/// What `call` returns with this back end.
template <class Call>
Tensor with_backend(std::string_view name, Call&& call) {
  ExecutionContext context = ExecutionContext::current();
  context.backend = name;
  const ContextScope scope(context);
  return call();
}

/// BLAS's result, held to the oracle's: |difference| <= depth eps (|a| * |b|) elementwise, and the rounding
/// of the result's own type.
template <class Call>
Tensor checked(const Tensor& a, const Tensor& b, int64_t depth, double eps, Call&& call) {
  const Tensor found = with_backend("blas", [&] { return call(a, b); });
  const Tensor wanted = with_backend("scalar", [&] { return call(a, b); });
  const Tensor bound = with_backend("scalar", [&] { return call(abs(a), abs(b)); });
  EXPECT_EQ(Shape(found.shape().begin(), found.shape().end()),
            Shape(wanted.shape().begin(), wanted.shape().end()));
  const auto x = to_vector<double>(to_dtype(found, DType::kF64)),
             y = to_vector<double>(to_dtype(wanted, DType::kF64)),
             z = to_vector<double>(to_dtype(bound, DType::kF64));
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE(std::abs(x[i] - y[i]), static_cast<double>(depth + 1) * eps * z[i]) << "element " << i;
  }
  return found;
}

Tensor checked_matmul(const Tensor& a, const Tensor& b, double eps = 0x1p-23) {
  return checked(a, b, a.size(-1), eps, [](const Tensor& x, const Tensor& y) { return matmul(x, y); });
}

Tensor random(const Shape& shape, uint64_t stream = 0, DType dtype = DType::kF32) {
  return randn(shape, {17, stream}, dtype);
}

TEST(Matmul, KnownProduct) {
  const Tensor a = from_values<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor b = from_values<float>({7, 8, 9, 10, 11, 12}, {3, 2});
  for (const char* backend : {"scalar", "blas"}) {
    const Tensor y = with_backend(backend, [&] { return matmul(a, b); });
    EXPECT_THAT(y.shape(), ElementsAre(2, 2));
    EXPECT_THAT(to_vector<float>(y), ElementsAre(58, 64, 139, 154));
  }
}

TEST(Matmul, OddSizesEqualTheOracles) {
  for (const int64_t m : {1, 2, 5, 64, 67}) {
    for (const int64_t n : {1, 3, 31, 128}) {
      for (const int64_t k : {1, 7, 65}) checked_matmul(random({m, k}), random({k, n}, 1));
    }
  }
  checked_matmul(random({19, 23}, 0, DType::kF64), random({23, 29}, 1, DType::kF64), 0x1p-52);
}

TEST(Matmul, VectorsAreRowsAndColumns) {
  const Tensor v = random({5}), w = random({5}, 1), a = random({5, 4}, 2);
  EXPECT_THAT(checked_matmul(v, a).shape(), ElementsAre(4));
  EXPECT_THAT(checked_matmul(a.transpose(0, 1), v).shape(), ElementsAre(4));
  EXPECT_THAT(checked_matmul(v, w).shape(), ElementsAre());
  EXPECT_THAT(checked_matmul(random({2, 3, 4, 5}), v).shape(), ElementsAre(2, 3, 4));
  EXPECT_THAT(checked_matmul(v, random({2, 3, 5, 4})).shape(), ElementsAre(2, 3, 4));
}

TEST(Matmul, LeadingAxesBroadcast) {
  EXPECT_THAT(checked_matmul(random({3, 1, 4, 5}), random({2, 5, 6}, 1)).shape(), ElementsAre(3, 2, 4, 6));
  EXPECT_THAT(checked_matmul(random({7, 4, 5}), random({5, 6}, 1)).shape(), ElementsAre(7, 4, 6));
  EXPECT_THAT(checked_matmul(random({4, 5}), random({7, 5, 6}, 1)).shape(), ElementsAre(7, 4, 6));
  const Tensor x = random({2, 3, 4, 5}), y = random({2, 3, 5, 2}, 1);
  EXPECT_EQ(to_vector<float>(matmul(x, y).select(0, 1).select(0, 2)),
            to_vector<float>(matmul(x.select(0, 1).select(0, 2), y.select(0, 1).select(0, 2))));
}

TEST(Matmul, TransposedOperandsAreNotCopied) {
  const Tensor a = random({40, 30}), b = random({50, 40}, 1);
  CopyTracker::reset();
  const Tensor y = with_backend("blas", [&] { return matmul(a.transpose(0, 1), b.transpose(0, 1)); });
  EXPECT_EQ(CopyTracker::totals().copied_bytes, 0U);
  checked_matmul(a.transpose(0, 1), b.transpose(0, 1));
  checked_matmul(a.narrow(1, 3, 20), b.narrow(0, 7, 20));
  checked_matmul(random({2, 8, 3, 5}).permute({0, 2, 1, 3}), random({2, 3, 8, 5}, 1).transpose(-1, -2));
  EXPECT_EQ(y.at({3, 4}), matmul(contiguous(a.transpose(0, 1)), contiguous(b.transpose(0, 1))).at({3, 4}));
}

TEST(Matmul, StridesThatBlasCannotReadAreCopiedAndCounted) {
  const Tensor a = random({12, 10}), b = random({5, 8}, 1);
  CopyTracker::reset();
  checked_matmul(a.slice(1, 0, {}, 2), b);
  EXPECT_GT(CopyTracker::totals().copied_bytes, 0U);
  checked_matmul(a.slice(1, {}, {}, -2), b.slice(0, {}, {}, -1));
  checked_matmul(random({1, 5}).expand({9, 5}), b);
  checked_matmul(random({5, 1}), random({1}, 1).expand({1, 7}));
  checked_matmul(random({7, 3}).narrow(1, 0, 1), random({1, 4}, 1));
  checked_matmul(random({7, 3}).slice(0, 0, 1), random({4, 3}, 1).transpose(0, 1).slice(0, {}, {}, 1));
}

TEST(Matmul, SizesOfZero) {
  for (const char* backend : {"scalar", "blas"}) {
    const auto product = [&](const Shape& a, const Shape& b) {
      return with_backend(backend, [&] { return matmul(zeros(a), zeros(b)); });
    };
    EXPECT_THAT(to_vector<float>(product({2, 0}, {0, 3})), ElementsAre(0, 0, 0, 0, 0, 0));
    EXPECT_THAT(product({0, 4}, {4, 3}).shape(), ElementsAre(0, 3));
    EXPECT_THAT(product({3, 4}, {4, 0}).shape(), ElementsAre(3, 0));
    EXPECT_THAT(product({0, 3, 4}, {4, 5}).shape(), ElementsAre(0, 3, 5));
    EXPECT_EQ(product({0}, {0}).item(), 0);
    EXPECT_THAT(to_vector<float>(product({2, 2, 0}, {0, 1})), ElementsAre(0, 0, 0, 0));
  }
}

TEST(Matmul, HalvesComputeInF32AndRoundOnce) {
  // 2048 + 1 is not an f16: summed there, every one after it would be lost.
  Tensor a = ones({1, 4096}, DType::kF16);
  EXPECT_EQ(with_backend("blas", [&] { return matmul(a, a.transpose(0, 1)); }).item(), 4096);
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const Tensor x = random({9, 33}, 0, dtype), y = random({33, 5}, 1, dtype);
    EXPECT_EQ(checked_matmul(x, y, dtype == DType::kF16 ? 0x1p-11 : 0x1p-8).dtype(), dtype);
    const Tensor wide = matmul(x, y, DType::kF32);
    EXPECT_EQ(wide.dtype(), DType::kF32);
    EXPECT_EQ(to_vector<double>(to_dtype(matmul(x, y), DType::kF64)),
              to_vector<double>(to_dtype(to_dtype(wide, dtype), DType::kF64)));
  }
}

TEST(Matmul, IntegersAreExactAndWrapAsTheirTypeDoes) {
  const Tensor a = from_values<int8_t>({127, -128, 1, -1}, {2, 2});
  // 127^2 + 128 = 16257 = 0x3f81
  EXPECT_EQ(matmul(a, a).dtype(), DType::kI8);
  EXPECT_EQ(matmul(a, a).at({0, 0}), static_cast<int8_t>(0x81));
  const Tensor wide = matmul(a, a, DType::kI32);
  EXPECT_EQ(wide.dtype(), DType::kI32);
  EXPECT_THAT(to_vector<int32_t>(wide), ElementsAre(127 * 127 - 128, 127 * -128 + 128, 126, -127));
  const auto extreme = full({300}, -128, DType::kI8);
  EXPECT_EQ(matmul(extreme, extreme, DType::kI32).item(), 300 * 128 * 128);
  const Tensor large = from_values<uint64_t>({~uint64_t{0}, 2}, {2});
  EXPECT_EQ(to_vector<uint64_t>(matmul(large, large)).front(), uint64_t{5});  // (-1)^2 + 4 modulo 2^64
  EXPECT_EQ(matmul(from_values<int32_t>({3}, {1}), from_values<float>({0.5F}, {1})).item(), 1.5);
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  const Error error = error_of([] { (void)matmul(ones({2, 3}), ones({2, 3})); });
  EXPECT_EQ(error.code(), ErrorCode::kShapeMismatch);
  EXPECT_EQ(error.operation(), "matmul");
  EXPECT_THAT(error.what(), HasSubstr("rows of 3 elements meet columns of 2"));
  EXPECT_EQ(error_of([] { (void)matmul(scalar(2), ones({2})); }).code(), ErrorCode::kShapeMismatch);
  EXPECT_EQ(error_of([] { (void)matmul(ones({2, 3, 4}), ones({3, 4, 5})); }).code(), ErrorCode::kBroadcast);
  EXPECT_EQ(error_of([] { (void)matmul(Tensor(), ones({2})); }).code(), ErrorCode::kInvalidTensor);
  const Tensor flags = zeros({2, 2}, DType::kBool);
  EXPECT_EQ(error_of([&] { (void)matmul(flags, flags); }).code(), ErrorCode::kUnsupported);
}

TEST(Matmul, NanAndInfinityGoThrough) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Tensor y = with_backend("blas", [&] {
    return matmul(from_values<float>({nan, 0, 1, inf}, {2, 2}), ones({2, 2}));
  });
  EXPECT_TRUE(std::isnan(y.at({0, 0})));
  EXPECT_EQ(y.at({1, 1}), inf);
}

TEST(Matmul, BitsDoNotDependOnTheThreads) {
  ThreadPool pool(7);
  const struct {
    Shape a, b;
  } cases[] = {{{515, 300}, {300, 260}},
               {{70, 301}, {301, 1030}},
               {{5, 130, 200}, {200, 210}},
               {{3, 150, 170}, {3, 170, 190}}};
  for (const auto& [a_shape, b_shape] : cases) {
    const Tensor a = random(a_shape), b = random(b_shape, 1);
    std::vector<float> wanted;
    for (const int threads : {1, 2, 3, 5, 7}) {
      ExecutionContext context;
      context.pool = &pool;
      context.threads = threads;
      context.backend = "blas";
      const ContextScope scope(context);
      const std::vector<float> found = to_vector<float>(matmul(a, b));
      if (wanted.empty()) wanted = found;
      EXPECT_EQ(found, wanted) << threads << " threads";
    }
    checked_matmul(a, b);
  }
}

TEST(Matmul, ItsLibrarySaysWhatItIs) {
  const BlasLibrary& library = blas_library();
  EXPECT_THAT(library.config, HasSubstr(library.kernels));
  EXPECT_FALSE(library.kernels.empty());
  EXPECT_EQ(library.concurrent, library.advice.find("one call runs at a time") == std::string::npos);
}

// OpenBLAS built without threads gives two callers the same scratch memory: products would be wrong.
TEST(Matmul, ManyThreadsMayCallAtOnce) {
  constexpr int kThreads = 8, kRounds = 400;
  std::atomic<int> started = 0, wrong = 0;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      ExecutionContext context;
      context.threads = 1;
      context.backend = "blas";
      const ContextScope scope(context);
      const Tensor a = random({70, 301}, static_cast<uint64_t>(thread)), b = random({301, 64}, 100);
      const std::vector<float> wanted =
          to_vector<float>(with_backend("scalar", [&] { return matmul(a, b); }));
      ++started;
      while (started < kThreads) std::this_thread::yield();
      for (int round = 0; round < kRounds; ++round) {
        const std::vector<float> found = to_vector<float>(matmul(a, b));
        for (size_t i = 0; i < found.size(); ++i) wrong += std::abs(found[i] - wanted[i]) > 1e-2F;
      }
    });
  }
  threads.clear();  // joins
  EXPECT_EQ(wrong, 0);
}

TEST(Gemm, PartsCoverTheProductBeginAtTilesAndAreNotSmall) {
  std::vector<float> y(size_t{4096} * 1000);  // only its addresses matter
  for (const int64_t rows : {1, 63, 64, 200, 515, 4096}) {
    for (const int64_t columns : {1, 64, 130, 1000}) {
      for (const int64_t depth : {1, 300, 5000}) {
        for (const int threads : {1, 2, 3, 7, 16, 100}) {
          const ops::GemmGrid grid = ops::gemm_grid(rows, depth, columns, threads);
          ASSERT_LE(grid.parts(), threads);
          const ops::GemmProblem<float> whole = {rows,       depth,    columns, {y.data()},
                                                 {y.data()}, y.data(), columns};
          int64_t covered = 0;
          for (int64_t part = 0; part < grid.parts(); ++part) {
            const auto one = ops::gemm_part(whole, part, grid);
            covered += one.rows * one.columns;
            const int64_t begin = one.y - whole.y;
            EXPECT_EQ(begin / columns % 64, 0);
            EXPECT_EQ(begin % columns % 64, 0);
            if (grid.parts() > 1) {
              EXPECT_GT(one.rows * one.columns * depth, 1000000);  // as large as gemm.cpp promises
            }
          }
          EXPECT_EQ(covered, rows * columns);
        }
      }
    }
  }
  EXPECT_EQ(ops::gemm_grid(1024, 1024, 1024, 16).parts(), 16);
  EXPECT_EQ(ops::gemm_grid(64, 4096, 4096, 8).parts(), 8);
  EXPECT_EQ(ops::gemm_grid(4096, 4096, 64, 8).parts(), 8);
}

TEST(Dot, SumsProductsOfVectors) {
  EXPECT_EQ(dot(from_values<float>({1, 2, 3}, {3}), from_values<float>({4, 5, 6}, {3})).item(), 32);
  EXPECT_EQ(error_of([] { (void)dot(ones({2, 2}), ones({2})); }).code(), ErrorCode::kShapeMismatch);
  EXPECT_EQ(error_of([] { (void)dot(ones({3}), ones({2})); }).code(), ErrorCode::kShapeMismatch);
}

TEST(Outer, MultipliesEveryPair) {
  const Tensor y = outer(from_values<int32_t>({1, 2}, {2}), from_values<int32_t>({3, 4, 5}, {3}));
  EXPECT_THAT(y.shape(), ElementsAre(2, 3));
  EXPECT_THAT(to_vector<int32_t>(y), ElementsAre(3, 4, 5, 6, 8, 10));
  EXPECT_THAT(outer(ones({2, 2}).transpose(0, 1), ones({3})).shape(), ElementsAre(4, 3));
}

// [1, 3, 10] by [3, 3, 3] with a bias of [3]: the specification's case, which failed there for want of a
// reshaped bias.
TEST(Specification, Conv1dOfOneByThreeByTenWithBias) {
  const Tensor x = arange(0, 30).reshape({1, 3, 10});
  const Tensor w = ones({3, 3, 3});
  const Tensor bias = from_values<float>({0.5F, -1, 2}, {3});
  for (const char* backend : {"scalar", "blas"}) {
    const Tensor y = with_backend(backend, [&] { return conv1d(x, w, bias); });
    ASSERT_THAT(y.shape(), ElementsAre(1, 3, 8));
    for (int64_t o = 0; o < 3; ++o) {
      for (int64_t t = 0; t < 8; ++t) {
        // Three channels of three neighbours: 9 t + 3 (0 + 1 + 2) + 3 (0 + 10 + 20)
        EXPECT_EQ(y.at({0, o, t}), static_cast<double>(9 * t + 9 + 90) + bias.at({o}));
      }
    }
  }
}

TEST(Conv1d, OptionsEqualTheOracles) {
  const Tensor x = random({2, 4, 11}), bias = random({6}, 2);
  for (const Conv1dOptions options :
       {Conv1dOptions{}, Conv1dOptions{.stride = 3}, Conv1dOptions{.padding = 4},
        Conv1dOptions{.dilation = 3}, Conv1dOptions{2, 2, 2, 2}}) {
    const Tensor w = random({6, 4 / options.groups, 3}, 1);
    checked(x, w, w.size(1) * 3 + 1, 0x1p-23,
            [&](const Tensor& a, const Tensor& b) { return conv1d(a, b, {}, options); });
    const Tensor with = with_backend("blas", [&] { return conv1d(x, w, bias, options); });
    const Tensor sum = add(conv1d(x, w, {}, options), bias.unsqueeze(1));
    EXPECT_EQ(to_vector<float>(with), to_vector<float>(sum));
  }
}

TEST(Conv1d, HandWorkedStridePaddingAndDilation) {
  const Tensor x = from_values<float>({1, 2, 3, 4, 5}, {1, 1, 5}), w = from_values<float>({1, 10}, {1, 1, 2});
  EXPECT_THAT(to_vector<float>(conv1d(x, w)), ElementsAre(21, 32, 43, 54));
  EXPECT_THAT(to_vector<float>(conv1d(x, w, {}, {.stride = 2})), ElementsAre(21, 43));
  EXPECT_THAT(to_vector<float>(conv1d(x, w, {}, {.padding = 1})), ElementsAre(10, 21, 32, 43, 54, 5));
  EXPECT_THAT(to_vector<float>(conv1d(x, w, {}, {.dilation = 3})), ElementsAre(41, 52));
}

TEST(Conv2d, OptionsEqualTheOracles) {
  const Tensor x = random({2, 4, 9, 7});
  const Conv2dOptions cases[] = {{},
                                 {.stride = {2, 3}},
                                 {.padding = {2, 0}},
                                 {.dilation = {1, 2}},
                                 {.stride = {2, 1}, .padding = {1, 3}, .dilation = {2, 1}, .groups = 2},
                                 {.groups = 4}};
  for (const Conv2dOptions& options : cases) {
    const Tensor w = random({8, 4 / options.groups, 3, 2}, 1);
    checked(x, w, w.size(1) * 6 + 1, 0x1p-23,
            [&](const Tensor& a, const Tensor& b) { return conv2d(a, b, {}, options); });
  }
  // One by one: a product over channels.
  const Tensor w = random({5, 4, 1, 1}, 1);
  const Tensor product = matmul(w.reshape({5, 4}), x.reshape({2, 4, 63}));
  checked(x, w, 5, 0x1p-23, [](const Tensor& a, const Tensor& b) { return conv2d(a, b); });
  EXPECT_THAT(to_vector<float>(conv2d(x, w)),
              testing::Pointwise(testing::FloatNear(1e-5F), to_vector<float>(product)));
}

TEST(Conv2d, ViewsHalvesAndIntegers) {
  const Tensor x = random({2, 6, 7, 3}).permute({0, 3, 1, 2}),
               w = random({2, 2, 3, 4}, 1).permute({3, 2, 0, 1});
  checked(x, w, 3 * 4 + 1, 0x1p-23, [](const Tensor& a, const Tensor& b) { return conv2d(a, b); });
  const Tensor half = to_dtype(x, DType::kF16), half_w = to_dtype(w, DType::kF16);
  EXPECT_EQ(checked(half, half_w, 13, 0x1p-11, [](const Tensor& a, const Tensor& b) { return conv2d(a, b); })
                .dtype(),
            DType::kF16);
  const Tensor integers = arange(0, 9, 1, DType::kI32).reshape({1, 1, 3, 3});
  EXPECT_THAT(
      to_vector<int32_t>(conv2d(integers, ones({1, 1, 2, 2}, DType::kI32), full({1}, 100, DType::kI32))),
      ElementsAre(108, 112, 120, 124));
}

TEST(Conv2d, ManyPositionsAtATimeAndAnyThreadsGiveTheSameBits) {
  // Depth 288: 896 positions at a time, of 2500.
  const Tensor x = random({2, 32, 50, 50}), w = random({5, 32, 3, 3}, 1);
  ThreadPool pool(5);
  std::vector<float> wanted;
  for (const int threads : {1, 2, 5}) {
    ExecutionContext context;
    context.pool = &pool;
    context.threads = threads;
    context.backend = "blas";
    const ContextScope scope(context);
    const std::vector<float> found = to_vector<float>(conv2d(x, w, {}, {.padding = {1, 1}}));
    if (wanted.empty()) wanted = found;
    EXPECT_EQ(found, wanted);
  }
  checked(x.narrow(0, 0, 1), w, 289, 0x1p-23, [](const Tensor& a, const Tensor& b) {
    return conv2d(a, b, {}, {.padding = {1, 1}});
  });
}

TEST(Convolution, EmptyBatchesAndChannels) {
  for (const char* backend : {"scalar", "blas"}) {
    EXPECT_THAT(with_backend(backend,
                             [] {
                               return conv1d(zeros({0, 3, 5}), zeros({2, 3, 2}));
                             })
                    .shape(),
                ElementsAre(0, 2, 4));
    const Tensor y = with_backend(backend, [] {
      return conv1d(zeros({1, 0, 5}), zeros({2, 0, 2}), from_values<float>({1, 2}, {2}));
    });
    EXPECT_THAT(to_vector<float>(y), ElementsAre(1, 1, 1, 1, 2, 2, 2, 2));
  }
}

TEST(Convolution, RefusesWhatCannotBe) {
  const Tensor x = ones({1, 4, 5}), w = ones({6, 4, 3});
  const auto code = [](auto&& call) { return error_of(call).code(); };
  constexpr auto kShape = ErrorCode::kShapeMismatch, kArgument = ErrorCode::kInvalidArgument;
  EXPECT_EQ(code([&] { (void)conv1d(x, ones({6, 3, 3})); }), kShape);
  EXPECT_EQ(code([&] { (void)conv1d(x, ones({6, 3})); }), kShape);
  EXPECT_EQ(code([&] { (void)conv2d(x, w); }), kShape);
  EXPECT_EQ(code([&] { (void)conv1d(x, w, ones({5})); }), kShape);
  EXPECT_EQ(code([&] { (void)conv1d(x, w, {}, {.groups = 2}); }), kShape);
  EXPECT_EQ(code([&] { (void)conv1d(x, ones({5, 2, 3}), {}, {.groups = 2}); }), kShape);
  EXPECT_EQ(code([&] { (void)conv1d(x, w, {}, {.stride = 0}); }), kArgument);
  EXPECT_EQ(code([&] { (void)conv1d(x, w, {}, {.padding = -1}); }), kArgument);
  EXPECT_EQ(code([&] { (void)conv1d(x, w, {}, {.dilation = 0}); }), kArgument);
  EXPECT_EQ(code([&] { (void)conv1d(x, w, {}, {.groups = 0}); }), kArgument);
  EXPECT_EQ(code([&] { (void)conv1d(x, ones({6, 4, 0})); }), kArgument);
  EXPECT_EQ(code([&] { (void)conv1d(x, w, {}, {.padding = INT64_MAX}); }), kArgument);
  const Error error = error_of([&] { (void)conv1d(x, w, {}, {.dilation = 3}); });
  EXPECT_EQ(error.code(), kArgument);
  EXPECT_THAT(error.what(), HasSubstr("a kernel of 3 with dilation 3 is larger than the padded input of 5"));
  EXPECT_EQ(code([&] { (void)conv1d(x, Tensor()); }), ErrorCode::kInvalidTensor);
}

TEST(Contraction, MetricsCountTwoOperationsForEachMultiplyAdd) {
  AccelerationMetrics metrics;
  ExecutionContext context;
  context.metrics = &metrics;
  const ContextScope scope(context);
  (void)matmul(ones({8, 16}), ones({16, 4}));
  EXPECT_EQ(metrics.backend_used, "blas");
  EXPECT_NEAR(metrics.operations_per_second * metrics.execution_time_seconds, 2 * 8 * 16 * 4, 1e-6);
}

}  // namespace
}  // namespace bitnet
