// Conversions between tensor types, the quantized ones among them, beside a copy of as many bytes.
#include "bitnet/ops/convert.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <string>

#include <benchmark/benchmark.h>

namespace {

using bitnet::DType;
using bitnet::Tensor;

constexpr int64_t kElements = int64_t{1} << 20;

bitnet::ConversionOptions options_to(DType dtype) {
  bitnet::ConversionOptions options;
  options.overflow = bitnet::Overflow::kSaturate;
  if (bitnet::is_quantized(dtype)) options.quantization = bitnet::Quantization{.scale = {0.05F}};
  return options;
}

void convert(benchmark::State& state, DType from, DType to) {
  const Tensor source =
      bitnet::to_dtype(bitnet::randn(bitnet::Shape{kElements}, {.seed = 1}), from, options_to(from));
  const bitnet::ConversionOptions options = options_to(to);
  const Tensor there = bitnet::to_dtype(source, to, options);
  if (there.numel() != kElements || there.dtype() != to) state.SkipWithError("not converted");
  for (auto _ : state) benchmark::DoNotOptimize(bitnet::to_dtype(source, to, options).storage().get());
  state.SetBytesProcessed(state.iterations() * (source.nbytes() + there.nbytes()));
  state.SetItemsProcessed(state.iterations() * kElements);
}

void copy(benchmark::State& state) {
  const Tensor source = bitnet::randn(bitnet::Shape{kElements}, {.seed = 1});
  for (auto _ : state) benchmark::DoNotOptimize(bitnet::clone(source).storage().get());
  state.SetBytesProcessed(2 * state.iterations() * source.nbytes());
}
BENCHMARK(copy)->Name("clone/f32");

const bool registered = [] {
  constexpr std::pair<DType, DType> kPairs[] = {
      {DType::kF32, DType::kF16},     {DType::kF16, DType::kF32},     {DType::kF32, DType::kBF16},
      {DType::kBF16, DType::kF32},    {DType::kF32, DType::kI8},      {DType::kF32, DType::kQInt8},
      {DType::kQInt8, DType::kF32},   {DType::kF32, DType::kQInt4},   {DType::kQInt4, DType::kF32},
      {DType::kF32, DType::kTernary}, {DType::kTernary, DType::kF32}, {DType::kF32, DType::kBinary},
  };
  for (const auto& [from, to] : kPairs) {
    const std::string name = "convert/" + std::string(to_string(from)) + "_to_" + std::string(to_string(to));
    benchmark::RegisterBenchmark(name.c_str(),
                                 [from, to](benchmark::State& state) { convert(state, from, to); });
  }
  return true;
}();

}  // namespace
