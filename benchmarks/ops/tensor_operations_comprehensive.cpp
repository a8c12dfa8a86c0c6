// Every row of the table in its default context, f32 and bf16; broadcast and strided operands; conversions.
#include "bitnet/ops/convert.h"
#include "bitnet/ops/metrics.h"
#include "ops/cases.h"

#include <string>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

namespace bitnet::ops {
namespace {

void table_row(benchmark::State& state, const OpInfo& info, DType dtype) {
  std::mt19937 random(1);
  Case given = make_case(info, std::vector<int64_t>{128, 512}, dtype, random);
  if (info.family == OpFamily::kReduction) given.params.axis_count = 1, given.params.axes[0] = 1;
  AccelerationMetrics metrics;
  {
    ExecutionContext context;
    context.metrics = &metrics;
    const ContextScope scope(context);
    benchmark::DoNotOptimize(run(info, given));
  }
  for (auto _ : state) benchmark::DoNotOptimize(run(info, given));
  state.SetLabel(metrics.backend_used);
  state.SetItemsProcessed(state.iterations() * given.operands[0].numel());
}

void broadcast(benchmark::State& state) {
  const Tensor a = ones({256, 1}), b = ones({256});
  for (auto _ : state) benchmark::DoNotOptimize(a + b);
  state.SetItemsProcessed(state.iterations() * 256 * 256);
}
void transposed(benchmark::State& state) {
  const Tensor a = ones({256, 256}), b = ones({256, 256}).transpose(0, 1);
  for (auto _ : state) benchmark::DoNotOptimize(a + b);
  state.SetItemsProcessed(state.iterations() * 256 * 256);
}
void columns(benchmark::State& state) {
  const Tensor a = ones({1024, 256});
  for (auto _ : state) benchmark::DoNotOptimize(sum(a, {0}));
  state.SetItemsProcessed(state.iterations() * 1024 * 256);
}
BENCHMARK(broadcast)->Name("layout/broadcast_add");
BENCHMARK(transposed)->Name("layout/transposed_add");
BENCHMARK(columns)->Name("layout/sum_of_columns");

void conversion(benchmark::State& state, DType from, DType to) {
  std::mt19937 random(1);
  const Tensor x = random_tensor(std::vector<int64_t>{1 << 14}, from, random);
  for (auto _ : state) benchmark::DoNotOptimize(to_dtype(x, to));
  state.SetBytesProcessed(state.iterations() * (x.nbytes() + to_dtype(x, to).nbytes()));
}

const bool kRegistered = [] {
  for (const OpInfo& info : op_table()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      benchmark::RegisterBenchmark(
          fmt::format("table/{}/{}", info.name, to_string(dtype)).c_str(),
          [&info, dtype](benchmark::State& state) { table_row(state, info, dtype); });
    }
  }
  for (const auto& [from, to] : {std::pair(DType::kF32, DType::kF16),
                                 {DType::kF16, DType::kF32},
                                 {DType::kF32, DType::kBF16},
                                 {DType::kBF16, DType::kF32},
                                 {DType::kI8, DType::kF32},
                                 {DType::kF32, DType::kI8},
                                 {DType::kTernary, DType::kF32},
                                 {DType::kI64, DType::kI32}}) {
    benchmark::RegisterBenchmark(
        fmt::format("convert/{}/{}", to_string(from), to_string(to)).c_str(),
        [from = from, to = to](benchmark::State& state) { conversion(state, from, to); });
  }
  return true;
}();

}  // namespace
}  // namespace bitnet::ops
