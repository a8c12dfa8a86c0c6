// Single-thread speed of every kernel that matters, on every table this machine runs, in the shapes of
// BitNet b1.58 2B-4T. Each benchmark first compares its result with the scalar table, then times.
//   kernels_benchmark --benchmark_filter='ternary/.*/tokens:1/'

#include "bitnet/core/memory.h"
#include "bitnet/quant/block_formats.h"
#include "bitnet/quant/packed_ternary.h"
#include "kernels/kernel_table.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

using Random = std::mt19937;

std::vector<const KernelTable*> tables() {
  int count = 0;
  const KernelTable* const* first = runnable_kernels(&count);
  return {first, first + count};
}

const KernelTable& scalar_table() {
  return *tables().back();
}

AlignedBuffer random_floats(int64_t count) {
  AlignedBuffer buffer(static_cast<size_t>(count) * sizeof(float));
  Random random(1);
  for (int64_t i = 0; i < count; ++i) buffer.as<float>()[i] = static_cast<float>(random()) * 0x1p-31f - 1.0f;
  return buffer;
}

bool same(const AlignedBuffer& a, const AlignedBuffer& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

void report(benchmark::State& state, double operations, double bytes) {
  using benchmark::Counter;
  const double iterations = static_cast<double>(state.iterations());
  if (operations > 0) state.counters["GOP/s"] = Counter(operations * iterations * 1e-9, Counter::kIsRate);
  if (bytes > 0) state.counters["GB/s"] = Counter(bytes * iterations * 1e-9, Counter::kIsRate);
}

/// The speed of reading memory with one thread: what a matrix-vector product cannot exceed.
void memory_read(benchmark::State& state) {
  const int64_t count = state.range(0) << 20 >> 3;
  AlignedBuffer buffer(static_cast<size_t>(count) * 8);
  std::memset(buffer.data(), 1, buffer.size());
  const auto* words = buffer.as<uint64_t>();
  for (auto _ : state) {
    uint64_t sum[8] = {};
    for (int64_t i = 0; i < count; i += 8) {
      for (int64_t j = 0; j < 8; ++j) sum[j] += words[i + j];
    }
    benchmark::DoNotOptimize(sum);
  }
  report(state, 0, static_cast<double>(count) * 8);
}

struct Shape {
  int64_t rows, cols;
};

/// Random trits of one group, repeated: packing takes no time, and no kernel's speed depends on values.
PackedTernary random_ternary(Shape shape, TernaryLayout layout) {
  PackedTernary matrix(shape.rows, shape.cols, layout);
  Random random(2);
  std::vector<int8_t> trits(static_cast<size_t>(16 * shape.cols));
  for (int8_t& trit : trits) trit = static_cast<int8_t>(static_cast<int>(random() % 3) - 1);
  const std::vector<float> scales(16, 0.5f);
  for (int64_t group = 0; group < matrix.groups(); ++group) matrix.set_group(group, trits, scales);
  return matrix;
}

void ternary(benchmark::State& state, const KernelTable& table, Shape shape, int64_t tokens,
             TernaryLayout layout) {
  const auto product = [layout](const KernelTable& t) {
    return layout == TernaryLayout::kTight ? t.ternary_tight : t.ternary_matmul;
  };
  // Enough copies that the weights come from memory and not from a cache, as in a model with many layers.
  constexpr int64_t kColdBytes = int64_t{1} << 30;
  const PackedTernary one = random_ternary(shape, layout);
  const int64_t copies = tokens <= 16 ? std::max<int64_t>(1, kColdBytes / one.bytes()) : 1;
  AlignedBuffer weights(static_cast<size_t>(copies * one.bytes()));
  for (int64_t i = 0; i < copies; ++i)
    std::memcpy(weights.as<uint8_t>() + i * one.bytes(), one.data(), static_cast<size_t>(one.bytes()));

  const AlignedBuffer x = random_floats(tokens * shape.cols);
  const int64_t stride = (shape.cols + 63) / 64 * 64;
  AlignedBuffer q(static_cast<size_t>(tokens * stride));
  std::vector<float> scale(static_cast<size_t>(tokens));
  std::vector<int32_t> sum(static_cast<size_t>(tokens));
  scalar_table().quantize(
      {x.as<float>(), shape.cols, tokens, shape.cols, q.as<int8_t>(), stride, scale.data(), sum.data()});
  AlignedBuffer y(static_cast<size_t>(tokens * shape.rows) * sizeof(float)), expected(y.size());
  TernaryMatmulArgs args = {
      one.data(), one.row_scales(), shape.rows, one.padded_cols(),    0,         5, tokens, q.as<int8_t>(),
      stride,     scale.data(),     sum.data(), expected.as<float>(), shape.rows};
  product(scalar_table())(args);
  args.y = y.as<float>();
  product(table)(args);
  if (!same(y, expected)) return state.SkipWithError("result differs from scalar");

  args.last_group = one.groups();
  int64_t copy = 0;
  for (auto _ : state) {
    args.weights = weights.as<uint8_t>() + copy * one.bytes();
    copy = copy + 1 == copies ? 0 : copy + 1;
    product(table)(args);
    benchmark::ClobberMemory();
  }
  report(state, 2.0 * static_cast<double>(shape.rows * shape.cols * tokens),
         static_cast<double>(one.bytes()));
}

void tight_to_blocks(benchmark::State& state, const KernelTable& table, Shape shape) {
  const PackedTernary tight = random_ternary(shape, TernaryLayout::kTight);
  AlignedBuffer blocks(static_cast<size_t>(tight.padded_cols() * 4));
  for (auto _ : state) {
    for (int64_t group = 0; group < tight.groups(); ++group) {
      table.tight_to_blocks({.weights = tight.data() + group * tight.group_bytes(),
                             .stride = tight.group_bytes(),
                             .padded_cols = tight.padded_cols(),
                             .first = 0,
                             .last = 1,
                             .blocks = blocks.as<uint8_t>()});
    }
    benchmark::ClobberMemory();
  }
  report(state, 0, static_cast<double>(tight.bytes()));
}

void dense(benchmark::State& state, const KernelTable& table, DType dtype, Shape shape, int64_t tokens) {
  const int64_t row_bytes = shape.cols / dtype_info(dtype).block_elements * dtype_info(dtype).block_bytes;
  AlignedBuffer weights(static_cast<size_t>(shape.rows * row_bytes));
  const AlignedBuffer row = random_floats(shape.cols);
  std::vector<std::byte> packed(static_cast<size_t>(row_bytes));
  quantize_row(dtype, {row.as<float>(), static_cast<size_t>(shape.cols)}, packed);
  for (int64_t r = 0; r < shape.rows; ++r)
    std::memcpy(weights.data() + r * row_bytes, packed.data(), static_cast<size_t>(row_bytes));

  const AlignedBuffer x = random_floats(tokens * shape.cols);
  AlignedBuffer y(static_cast<size_t>(tokens * shape.rows) * sizeof(float)), expected(y.size());
  DenseMatmulArgs args = {dtype,  weights.as<uint8_t>(), row_bytes,  shape.cols,           0,         37,
                          tokens, x.as<float>(),         shape.cols, expected.as<float>(), shape.rows};
  scalar_table().dense_matmul(args);
  args.y = y.as<float>();
  table.dense_matmul(args);
  if (!same(y, expected)) return state.SkipWithError("result differs from scalar");

  args.last_row = shape.rows;
  for (auto _ : state) {
    table.dense_matmul(args);
    benchmark::ClobberMemory();
  }
  report(state, 2.0 * static_cast<double>(shape.rows * shape.cols * tokens),
         static_cast<double>(weights.size()));
}

/// Activations of a scan: any integers, whose values do not change its speed.
AlignedBuffer random_bytes(int64_t count) {
  AlignedBuffer buffer(static_cast<size_t>(count));
  Random random(3);
  for (int64_t i = 0; i < count; ++i)
    buffer.as<int8_t>()[i] = static_cast<int8_t>(static_cast<int>(random() % 127) - 63);
  return buffer;
}

void scan_i4(benchmark::State& state, const KernelTable& table, Shape shape, int64_t tokens) {
  const int64_t units = shape.cols / 128, groups = shape.rows / 16, group_bytes = units * 1088;
  AlignedBuffer weights(static_cast<size_t>(groups * group_bytes));
  Random random(5);
  for (int64_t i = 0; i < group_bytes; ++i)
    weights.as<uint8_t>()[i] = static_cast<uint8_t>(random() & (i % 1088 < 1024 ? 255 : 127));
  for (int64_t g = 1; g < groups; ++g)
    std::memcpy(weights.data() + g * group_bytes, weights.data(), static_cast<size_t>(group_bytes));
  const AlignedBuffer x = random_bytes(tokens * shape.cols);
  const std::vector<float> squares(static_cast<size_t>(tokens * units * 4), 0.3f);
  const std::vector<int32_t> offsets(squares.size(), 1000);
  AlignedBuffer y(static_cast<size_t>(2 * tokens * shape.rows) * sizeof(float)), expected(y.size());
  ScanI4Args args = {.weights = weights.as<uint8_t>(),
                     .units = units,
                     .first_group = 0,
                     .last_group = 2,
                     .tokens = tokens,
                     .hi = x.as<int8_t>(),
                     .lo = x.as<int8_t>(),
                     .x_stride = shape.cols,
                     .offset = offsets.data(),
                     .weight = squares.data(),
                     .block_stride = units * 4,
                     .y = nullptr,
                     .bound = nullptr,
                     .y_stride = shape.rows};
  const auto run = [&](const KernelTable& t, AlignedBuffer& out) {
    args.y = out.as<float>();
    args.bound = args.y + tokens * shape.rows;
    t.scan_i4(args);
  };
  run(scalar_table(), expected);
  run(table, y);
  if (!same(y, expected)) return state.SkipWithError("result differs from scalar");
  args.last_group = groups;
  for (auto _ : state) {
    run(table, y);
    benchmark::ClobberMemory();
  }
  report(state, 2.0 * static_cast<double>(shape.rows * shape.cols * tokens),
         static_cast<double>(weights.size()));
}

/// A kernel over rows of floats: run(table, x, y) writes y from x.
void elementwise(benchmark::State& state, const KernelTable& table, int64_t count,
                 const std::function<void(const KernelTable&, const float*, void*)>& run) {
  const AlignedBuffer x = random_floats(count);
  AlignedBuffer y(x.size()), expected(x.size());
  run(scalar_table(), x.as<float>(), expected.data());
  run(table, x.as<float>(), y.data());
  if (!same(y, expected)) return state.SkipWithError("result differs from scalar");
  for (auto _ : state) {
    run(table, x.as<float>(), y.data());
    benchmark::ClobberMemory();
  }
  report(state, 0, static_cast<double>(count) * sizeof(float));
}

void register_elementwise(const KernelTable& table) {
  constexpr int64_t kHidden = 2560, kInner = 6912;
  const auto add = [&](const char* name, int64_t count, auto run) {
    benchmark::RegisterBenchmark(
        fmt::format("{}/{}/{}", name, count, table.name).c_str(),
        [&table, count, run](benchmark::State& state) { elementwise(state, table, count, run); });
  };
  add("quantize", kInner, [](const KernelTable& t, const float* x, void* y) {
    float scale;
    int32_t sum;
    t.quantize({x, kInner, 1, kInner, static_cast<int8_t*>(y), kInner, &scale, &sum});
  });
  add("rms_norm", kHidden, [](const KernelTable& t, const float* x, void* y) {
    t.rms_norm({x, kHidden, 1, kHidden, x, 1e-5f, static_cast<float*>(y), kHidden});
  });
  add("glu_relu2", kInner, [](const KernelTable& t, const float* x, void* y) {
    t.glu_relu2({x, x, static_cast<float*>(y), kInner});
  });
  add("glu_silu", kInner, [](const KernelTable& t, const float* x, void* y) {
    t.glu_silu({x, x, static_cast<float*>(y), kInner});
  });
}

/// Scans of the head: the bytes of GB/s are the weights'.
void register_scans(const KernelTable& table) {
  const Shape shape = &table == &scalar_table() ? Shape{1024, 2560} : Shape{128256, 2560};
  for (const int64_t tokens : {1, 2, 4, 8}) {
    const std::string suffix = fmt::format("{}x{}/tokens:{}/{}", shape.rows, shape.cols, tokens, table.name);
    benchmark::RegisterBenchmark(("scan/i4/" + suffix).c_str(), [=, &table](benchmark::State& state) {
      scan_i4(state, table, shape, tokens);
    })->Unit(benchmark::kMillisecond);
  }
}

void register_tight(const KernelTable& table) {
  if (table.tight_to_blocks == nullptr) return;
  for (const Shape shape : {Shape{6912, 2560}, Shape{2560, 6912}}) {
    benchmark::RegisterBenchmark(
        fmt::format("tight_to_blocks/{}x{}/{}", shape.rows, shape.cols, table.name).c_str(),
        [=, &table](benchmark::State& state) { tight_to_blocks(state, table, shape); })
        ->Unit(benchmark::kMicrosecond);
  }
}

void register_all() {
  benchmark::RegisterBenchmark("memory_read/MiB", memory_read)->Arg(1024)->Unit(benchmark::kMillisecond);
  for (const KernelTable* table : tables()) {
    for (const Shape shape : {Shape{2560, 2560}, Shape{6912, 2560}, Shape{2560, 6912}}) {
      for (const int64_t tokens : {1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 128, 512}) {
        // The scalar table has no need of long runs: its time is proportional to the tokens.
        if (table == &scalar_table() && tokens > 4) continue;
        for (const TernaryLayout layout : {TernaryLayout::kBlocks, TernaryLayout::kTight}) {
          if (layout == TernaryLayout::kTight && table->ternary_tight == nullptr) continue;
          benchmark::RegisterBenchmark(
              fmt::format("ternary/{}/{}x{}/tokens:{}/{}", to_string(layout), shape.rows, shape.cols, tokens,
                          table->name)
                  .c_str(),
              [=](benchmark::State& state) { ternary(state, *table, shape, tokens, layout); })
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
    for (const DType dtype : {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ6_K, DType::kQ4_0}) {
      for (const int64_t tokens : {1, 8}) {
        const Shape shape = table == &scalar_table() ? Shape{1024, 2560} : Shape{128256, 2560};
        benchmark::RegisterBenchmark(
            fmt::format("dense/{}/{}x{}/tokens:{}/{}", to_string(dtype), shape.rows, shape.cols, tokens,
                        table->name)
                .c_str(),
            [=](benchmark::State& state) { dense(state, *table, dtype, shape, tokens); })
            ->Unit(benchmark::kMillisecond);
      }
    }
    register_tight(*table);
    register_scans(*table);
    register_elementwise(*table);
  }
}

}  // namespace
}  // namespace bitnet::kernels

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  bitnet::kernels::register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
