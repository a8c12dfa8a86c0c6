// f32 products of [n, n]: our matmul on one thread and on all, OpenBLAS called directly, and naive loops, in
// one run. Each is checked against the naive result before it is timed. The counters are 1e9 operations per
// second. Run with --benchmark_enable_random_interleaving=true --benchmark_repetitions=5 on a shared machine.

#include "bitnet/ops/context.h"
#include "bitnet/ops/contraction.h"
#include "bitnet/tensor/create.h"
#include "naive_matmul.h"

#include <cmath>
#include <cstddef>
#include <functional>
#include <map>
#include <utility>

#include <benchmark/benchmark.h>

extern "C" void sgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
                       const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
                       const float* beta, float* c, const int* ldc, size_t, size_t);

namespace {

using bitnet::Tensor;

struct Problem {
  int64_t n;
  Tensor a, b, y;

  explicit Problem(int64_t size)
      : n(size),
        a(bitnet::randn(bitnet::Shape{size, size}, {1})),
        b(bitnet::randn(bitnet::Shape{size, size}, {2})),
        y(bitnet::zeros({size, size})) {}
};

/// Largest distance from the naive result, which is within n eps sum |a b|, some n eps n here.
bool right(const Problem& problem) {
  static std::map<int64_t, Tensor> known;
  Tensor& wanted = known[problem.n];
  if (!wanted.defined()) {
    wanted = bitnet::zeros({problem.n, problem.n});
    naive_matmul(problem.n, problem.a.data<float>(), problem.b.data<float>(), wanted.data<float>());
  }
  const float bound = static_cast<float>(problem.n) * std::sqrt(static_cast<float>(problem.n)) * 0x1p-23F;
  const auto x = problem.y.values<float>(), y = std::as_const(wanted).values<float>();
  for (size_t i = 0; i < x.size(); ++i) {
    if (!(std::abs(x[i] - y[i]) <= bound)) return false;
  }
  return true;
}

void measure(benchmark::State& state, const std::function<void(Problem&)>& product) {
  Problem problem(state.range(0));
  product(problem);
  if (!right(problem)) {
    state.SkipWithError("the result is wrong");
    return;
  }
  for (auto _ : state) product(problem);
  const auto n = static_cast<double>(problem.n);
  state.counters["gflops"] =
      benchmark::Counter(2e-9 * n * n * n, benchmark::Counter::kIsIterationInvariantRate);
}

void ours(benchmark::State& state, int threads) {
  bitnet::ExecutionContext context;
  context.threads = threads;
  const bitnet::ContextScope scope(context);
  measure(state, [](Problem& problem) { problem.y = bitnet::matmul(problem.a, problem.b); });
}

void one_thread(benchmark::State& state) {
  ours(state, 1);
}
void all_threads(benchmark::State& state) {
  ours(state, 0);
}
void openblas(benchmark::State& state) {
  measure(state, [](Problem& problem) {
    const auto n = static_cast<int>(problem.n);
    const float one = 1, zero = 0;
    sgemm_("N", "N", &n, &n, &n, &one, std::as_const(problem.b).data<float>(), &n,
           std::as_const(problem.a).data<float>(), &n, &zero, problem.y.data<float>(), &n, 1, 1);
  });
}
void naive(benchmark::State& state) {
  measure(state, [](Problem& problem) {
    naive_matmul(problem.n, std::as_const(problem.a).data<float>(), std::as_const(problem.b).data<float>(),
                 problem.y.data<float>());
  });
}

BENCHMARK(one_thread)->RangeMultiplier(2)->Range(64, 2048)->UseRealTime();
BENCHMARK(all_threads)->RangeMultiplier(2)->Range(64, 2048)->UseRealTime();
BENCHMARK(openblas)->RangeMultiplier(2)->Range(64, 2048)->UseRealTime();
BENCHMARK(naive)->RangeMultiplier(2)->Range(64, 2048)->UseRealTime();

}  // namespace
