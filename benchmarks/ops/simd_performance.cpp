// The Highway kernels against the scalar ones (plain loops, vectorizer off) in one run: operands in cache,
// one thread, through the dispatcher. Results are compared before anything is timed; times are of the same
// call.
//   simd_performance --benchmark_repetitions=5
#include "bitnet/core/error.h"
#include "bitnet/ops/convert.h"
#include "ops/cases.h"
#include "ops/host_backend.h"

#include <cmath>
#include <memory>
#include <string>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

namespace bitnet::ops {
namespace {

Tensor run_on(const char* backend, const OpInfo& info, const Case& given) {
  ExecutionContext context;
  context.backend = backend;
  context.threads = 1;
  const ContextScope scope(context);
  return run(info, given);
}

/// The largest difference, relative to the largest element.
double difference(const Tensor& a, const Tensor& b) {
  const Tensor x = to_dtype(a, DType::kF64), y = to_dtype(b, DType::kF64);
  const double largest = max(abs(y)).item();
  return max(abs(sub(x, y))).item() / (largest > 0 ? largest : 1);
}

void measure(benchmark::State& state, Op op, DType dtype, int64_t rows, int64_t columns,
             const char* backend) {
  std::mt19937 random(1);
  const OpInfo& info = op_info(op);
  Case given = make_case(info, std::vector<int64_t>{rows, columns}, dtype, random);
  if (info.family == OpFamily::kReduction) {
    given.params.axis_count = 1;
    given.params.axes[0] = 1;
  }
  const double allowed = dtype == DType::kF32 ? 1e-5 : 1e-2;
  if (difference(run_on("simd", info, given), run_on("scalar", info, given)) > allowed) {
    state.SkipWithError("simd and scalar differ");
    return;
  }
  ExecutionContext context;
  context.backend = backend;
  context.threads = 1;
  const ContextScope scope(context);
  for (auto _ : state) benchmark::DoNotOptimize(run(info, given));
  state.SetItemsProcessed(state.iterations() * rows * columns);
}

/// The kernels alone, on 2048 elements: three operands of 8 KB, in the first cache.
void kernel(benchmark::State& state, Op op, const KernelSet& kernels) {
  constexpr int64_t kCount = 2048;
  std::mt19937 random(1);
  const Tensor a = random_tensor(std::vector<int64_t>{kCount}, DType::kF32, random);
  Tensor b = random_tensor(std::vector<int64_t>{kCount}, DType::kF32, random), y = empty({kCount});
  std::byte* const operands[] = {y.bytes(), const_cast<std::byte*>(a.bytes()), b.bytes()};
  constexpr int64_t kStrides[] = {1, 1, 1};
  if (op_info(op).family == OpFamily::kElementwise) {
    const LoopKernel run = kernels.loop(op, DType::kF32);
    for (auto _ : state) run(kCount, operands, kStrides);
  } else {
    const ReduceKernel run = kernels.reduce(op, DType::kF32);
    for (auto _ : state) {
      Partial partial;
      run(kCount, operands[1], 1, 0, partial);
      benchmark::DoNotOptimize(partial);
    }
  }
  state.SetItemsProcessed(state.iterations() * kCount);
}

void add_kernel(Op op) {
  for (const bool simd : {false, true}) {
    const std::string name = fmt::format("kernel/{}/f32/2048/{}", op_info(op).name, simd ? "simd" : "scalar");
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
      kernel(state, op, simd ? simd_kernels() : scalar_kernels());
    });
  }
}

void add(const char* group, Op op, DType dtype, int64_t rows, int64_t columns) {
  for (const char* backend : {"scalar", "simd"}) {
    const std::string name =
        fmt::format("{}/{}/{}/{}x{}/{}", group, op_info(op).name, to_string(dtype), rows, columns, backend);
    benchmark::RegisterBenchmark(
        name.c_str(), [=](benchmark::State& state) { measure(state, op, dtype, rows, columns, backend); });
  }
}

const bool kRegistered = [] {
  for (const Op op :
       {Op::kAdd, Op::kMul, Op::kDiv, Op::kMaximum, Op::kRelu, Op::kSqrt, Op::kLess, Op::kSum, Op::kMax}) {
    add_kernel(op);
  }
  for (const Op op : {Op::kAdd, Op::kMul, Op::kDiv, Op::kMaximum, Op::kRelu, Op::kSqrt, Op::kLess, Op::kExp,
                      Op::kTanh, Op::kSigmoid, Op::kSilu, Op::kGeluTanh}) {
    add("elementwise", op, DType::kF32, 8, 1024);
  }
  for (const Op op : {Op::kSum, Op::kMax, Op::kVar, Op::kArgmax}) add("reduction", op, DType::kF32, 8, 1024);
  for (const Op op : {Op::kSoftmax, Op::kLogSoftmax, Op::kLayerNorm, Op::kRmsNorm})
    add("rows", op, DType::kF32, 8, 1024);
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    add("elementwise", Op::kMul, dtype, 8, 1024);
    add("rows", Op::kRmsNorm, dtype, 8, 1024);
  }
  return true;
}();

}  // namespace
}  // namespace bitnet::ops
