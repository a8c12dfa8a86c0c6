// Memory runs out at every allocation of the main operations, one after the other: the error says so, or
// another back end computes the result after all, and no block stays behind.
#include "bitnet/memory/failure.h"

#include "bitnet/ops/contraction.h"
#include "bitnet/ops/convert.h"
#include "bitnet/ops/linalg.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/create.h"

#include <functional>
#include <utility>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

TEST(OpFailure, NoOperationLeaksWhereverMemoryRunsOut) {
  const Tensor x = randn(Shape{6, 8}, {.seed = 1}), y = randn(Shape{6, 8}, {.seed = 2});
  const Tensor square = matmul(x, x.transpose(0, 1)), half = to_dtype(x, DType::kF16);
  const std::pair<const char*, std::function<void()>> operations[] = {
      {"add", [&] { (void)add(x, y); }},
      {"mixed types", [&] { (void)mul(half, y.transpose(0, 1).transpose(0, 1)); }},
      {"where", [&] { (void)where(less(x, y), x, mul(y, 0)); }},
      {"sum", [&] { (void)sum(x, {0}); }},
      {"quantile", [&] { (void)quantile(x, 0.3, {1}); }},
      {"softmax", [&] { (void)softmax(x, 0); }},
      {"rms_norm", [&] { (void)rms_norm(x, ones({8})); }},
      {"embedding",
       [&] {
         (void)embedding(x, from_values<int64_t>({5, 0}, {2}));
       }},
      {"to ternary", [&] { (void)to_dtype(x, DType::kTernary, {.overflow = Overflow::kSaturate}); }},
      {"matmul", [&] { (void)matmul(x, y.transpose(0, 1)); }},
      {"matmul f16", [&] { (void)matmul(half, half.transpose(0, 1)); }},
      {"conv1d",
       [&] {
         (void)conv1d(x.unsqueeze(0), randn(Shape{2, 6, 3}, {.seed = 3}), ones({2}));
       }},
      {"svd", [&] { (void)svd(x); }},
      {"solve", [&] { (void)solve(square, x); }},
      {"eig", [&] { (void)eig(square); }},
  };
  for (const auto& operation : operations) {
    operation.second();  // whatever is made once and kept
    EXPECT_GT(fail_each_allocation(HybridMemoryPool::instance(), operation.second), 0U) << operation.first;
  }
}

}  // namespace
}  // namespace bitnet
