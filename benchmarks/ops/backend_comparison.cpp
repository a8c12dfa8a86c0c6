// The same operation on every back end that this machine has and that supports it, checked against the first:
// the scalar one. A GPU's times end with the transfer of one element back, which waits for the kernels.
#include "bitnet/core/error.h"
#include "bitnet/ops/backend.h"
#include "bitnet/ops/contraction.h"
#include "bitnet/ops/devices.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/create.h"

#include <functional>
#include <string>

#include <benchmark/benchmark.h>

namespace {

using bitnet::Tensor;

constexpr int64_t kRows = 256, kColumns = 1024;

struct Case {
  const char* name;
  std::function<Tensor(const Tensor& x, const Tensor& y)> compute;
};

std::vector<Case> cases() {
  return {{"add", [](const Tensor& x, const Tensor& y) { return bitnet::add(x, y); }},
          {"exp", [](const Tensor& x, const Tensor&) { return bitnet::exp(x); }},
          {"sum", [](const Tensor& x, const Tensor&) { return bitnet::sum(x, {1}); }},
          {"softmax", [](const Tensor& x, const Tensor&) { return bitnet::softmax(x); }},
          {"matmul", [](const Tensor& x, const Tensor& y) { return bitnet::matmul(x, y.transpose(0, 1)); }}};
}

Tensor on_host(const Tensor& tensor) {
  return bitnet::to_device(tensor, bitnet::kCpuDevice);
}

void run_case(benchmark::State& state, const Case& which, const bitnet::Backend& backend) {
  const Tensor x = bitnet::randn(bitnet::Shape{kRows, kColumns}, {.seed = 1, .stream = 0});
  const Tensor y = bitnet::randn(bitnet::Shape{kRows, kColumns}, {.seed = 1, .stream = 1});
  bitnet::ExecutionContext context;
  context.backend = "scalar";
  Tensor wanted;
  {
    const bitnet::ContextScope scope(context);
    wanted = which.compute(x, y);
  }
  context.backend = backend.name();
  const bitnet::ContextScope scope(context);
  const Tensor here = bitnet::to_device(x, backend.device()), beside = bitnet::to_device(y, backend.device());
  try {
    const Tensor found = on_host(which.compute(here, beside));
    bitnet::ExecutionContext plain;
    const bitnet::ContextScope any(plain);
    // Sums of 1024 products of unit variance, each rounded to f32.
    if (bitnet::max(bitnet::abs(bitnet::sub(found, wanted))).item() > 1024 * 32 * 0x1p-23) {
      state.SkipWithError("differs from the scalar back end");
    }
  } catch (const bitnet::Error& error) {
    state.SkipWithError(error.what());
  }
  for (auto _ : state) {
    const Tensor result = which.compute(here, beside);
    if (!bitnet::is_host(backend.device())) {
      benchmark::DoNotOptimize(on_host(result.flatten().narrow(0, 0, 1)));
    }
    benchmark::DoNotOptimize(result.storage().get());
  }
}

const bool registered = [] {
  (void)bitnet::register_gpu_memory();  // and the GPUs' back ends
  for (const Case& which : cases()) {
    for (const bitnet::Backend* backend : bitnet::backends()) {
      benchmark::RegisterBenchmark(
          (std::string(which.name) + "/" + std::string(backend->name())).c_str(),
          [which, backend](benchmark::State& state) { run_case(state, which, *backend); })
          ->UseRealTime();
    }
  }
  return true;
}();

}  // namespace
