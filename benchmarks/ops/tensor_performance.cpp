// What a tensor and the way to a kernel cost, beside the least that the C library needs for the same bytes.
#include "bitnet/ops/context.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/create.h"

#include <cstdlib>
#include <cstring>

#include <benchmark/benchmark.h>

namespace {

using bitnet::Tensor;

constexpr size_t kBytes = 32 * 32 * sizeof(float);

/// The target: under 100 ns.
void zeros_32x32(benchmark::State& state) {
  if (bitnet::zeros({32, 32}).at({31, 31}) != 0) state.SkipWithError("not zero");
  for (auto _ : state) benchmark::DoNotOptimize(bitnet::zeros({32, 32}));
}
void malloc_memset_4k(benchmark::State& state) {
  for (auto _ : state) {
    void* bytes = std::malloc(kBytes);
    std::memset(bytes, 0, kBytes);
    benchmark::DoNotOptimize(bytes);
    benchmark::ClobberMemory();
    std::free(bytes);
  }
}
BENCHMARK(zeros_32x32)->Name("zeros/32x32");
BENCHMARK(malloc_memset_4k)->Name("zeros/malloc_memset");

void views(benchmark::State& state) {
  const Tensor x = bitnet::ones({8, 16, 32});
  for (auto _ : state) benchmark::DoNotOptimize(x.transpose(0, 1).narrow(1, 2, 4).unsqueeze(0));
}
BENCHMARK(views)->Name("views/three");

/// One element: nothing but the way from the function to the kernel.
void add_one_element(benchmark::State& state) {
  const Tensor a = bitnet::ones({1}), b = bitnet::ones({1});
  for (auto _ : state) benchmark::DoNotOptimize(a + b);
}
void add_one_element_in_place(benchmark::State& state) {
  Tensor a = bitnet::ones({1});
  const Tensor b = bitnet::ones({1});
  for (auto _ : state) benchmark::DoNotOptimize(add_(a, b));
}
BENCHMARK(add_one_element)->Name("dispatch/add");
BENCHMARK(add_one_element_in_place)->Name("dispatch/add_in_place");

/// Where a second thread begins to pay (kParallelElements in src/ops/parallel.h).
void add_on_threads(benchmark::State& state) {
  const int64_t n = state.range(0);
  bitnet::ExecutionContext context;
  context.threads = static_cast<int>(state.range(1));
  const bitnet::ContextScope scope(context);
  Tensor a = bitnet::ones({n});
  const Tensor b = bitnet::ones({n});
  for (auto _ : state) benchmark::DoNotOptimize(add_(a, b));
  state.SetBytesProcessed(state.iterations() * n * 12);
}
BENCHMARK(add_on_threads)
    ->Name("threads/add")
    ->ArgsProduct({{1 << 14, 1 << 16, 1 << 18, 1 << 22}, {1, 0}})
    ->UseRealTime();

}  // namespace
