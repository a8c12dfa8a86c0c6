// Products with chosen rows and columns at several shares, beside the whole product, on every table this
// machine runs: one thread, the shapes of BitNet b1.58 2B-4T's up and down, weights from memory. GB/s counts
// the bytes of the rows or columns chosen.
//   sparse_benchmark --benchmark_filter='avx512vnni' --benchmark_enable_random_interleaving
//                    --benchmark_repetitions=9 --benchmark_report_aggregates_only

#include "bitnet/core/memory.h"
#include "bitnet/quant/packed_ternary.h"
#include "kernels/kernel_table.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

constexpr int64_t kHidden = 2560, kInner = 6912;
constexpr int64_t kColdBytes = int64_t{256} << 20;  // copies of a matrix, beyond every cache

/// Random trits of one group, repeated, in as many copies as do not fit a cache (one if `warm`).
class Weights {
 public:
  Weights(int64_t rows, int64_t cols, TernaryLayout layout, bool warm) : matrix_(rows, cols, layout) {
    std::mt19937 random(2);
    std::vector<int8_t> trits(static_cast<size_t>(matrix_.group_rows() * cols));
    for (int8_t& trit : trits) trit = static_cast<int8_t>(static_cast<int>(random() % 3) - 1);
    const std::vector<float> scales(static_cast<size_t>(matrix_.group_rows()), 0.5f);
    for (int64_t group = 0; group < matrix_.groups(); ++group) matrix_.set_group(group, trits, scales);
    copies_ = warm ? 1 : std::max<int64_t>(1, kColdBytes / matrix_.bytes());
    bytes_ = AlignedBuffer(static_cast<size_t>(copies_ * matrix_.bytes()));
    for (int64_t i = 0; i < copies_; ++i)
      std::memcpy(bytes_.data() + i * matrix_.bytes(), matrix_.data(), static_cast<size_t>(matrix_.bytes()));
  }
  [[nodiscard]] const PackedTernary& matrix() const { return matrix_; }
  const uint8_t* next() {
    const uint8_t* copy = bytes_.as<uint8_t>() + next_ * matrix_.bytes();
    next_ = next_ + 1 == copies_ ? 0 : next_ + 1;
    return copy;
  }

 private:
  PackedTernary matrix_;
  AlignedBuffer bytes_;
  int64_t copies_ = 1, next_ = 0;
};

std::vector<int32_t> choose(int64_t count, double share) {
  std::mt19937 random(3);
  std::vector<int32_t> list;
  for (int64_t i = 0; i < count; ++i) {
    if (static_cast<double>(random()) * 0x1p-32 < share) list.push_back(static_cast<int32_t>(i));
  }
  return list;
}

AlignedBuffer activations(int64_t count) {
  AlignedBuffer q(static_cast<size_t>(count));
  std::mt19937 random(1);
  for (int64_t i = 0; i < count; ++i)
    q.as<int8_t>()[i] = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  return q;
}

void report(benchmark::State& state, int64_t bytes) {
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(bytes * state.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}

void rows(benchmark::State& state, const KernelTable& table, double share, bool warm) {
  Weights weights(kInner, kHidden, TernaryLayout::kRows, warm);
  const std::vector<int32_t> list = choose(kInner, share);
  const AlignedBuffer planes = activations(kHidden);
  std::vector<float> y(list.size());
  for (auto _ : state) {
    table.ternary_rows({weights.next(), weights.matrix().row_scales(), kHidden, list.data(), std::ssize(list),
                        planes.as<int8_t>(), kHidden / 4, 1.0f, 0, y.data()});
    benchmark::ClobberMemory();
  }
  report(state, std::ssize(list) * kHidden / 4);
}

void columns(benchmark::State& state, const KernelTable& table, double share, bool warm) {
  Weights weights(kHidden, kInner, TernaryLayout::kColumns, warm);
  std::vector<int32_t> list = choose(kInner, share);
  const auto count = std::ssize(list);
  list.resize(list.size() + 4);
  AlignedBuffer q = activations(count + 4);
  std::fill_n(q.as<int8_t>() + count, 4, int8_t{0});
  std::vector<int32_t> sums(kHidden);
  for (auto _ : state) {
    table.ternary_columns({weights.next(), weights.matrix().stride(), 0, weights.matrix().groups(),
                           list.data(), q.as<int8_t>(), count, sums.data()});
    benchmark::ClobberMemory();
  }
  report(state, count * kHidden / 4);
}

void whole(benchmark::State& state, const KernelTable& table, int64_t tokens, bool warm) {
  Weights weights(kInner, kHidden, TernaryLayout::kBlocks, warm);
  const AlignedBuffer q = activations(tokens * kHidden);
  const std::vector<float> scale(static_cast<size_t>(tokens), 1.0f);
  const std::vector<int32_t> sum(static_cast<size_t>(tokens), 0);
  std::vector<float> y(static_cast<size_t>(tokens * kInner));
  for (auto _ : state) {
    table.ternary_matmul({weights.next(), weights.matrix().row_scales(), kInner, kHidden, 0,
                          weights.matrix().groups(), tokens, q.as<int8_t>(), kHidden, scale.data(),
                          sum.data(), y.data(), kInner});
    benchmark::ClobberMemory();
  }
  report(state, weights.matrix().bytes() * (warm ? tokens : 1));
}

void blocks(benchmark::State& state, const KernelTable& table, TernaryLayout layout) {
  const bool by_rows = layout == TernaryLayout::kRows;
  Weights weights(by_rows ? kInner : kHidden, by_rows ? kHidden : kInner, layout, false);
  const PackedTernary& matrix = weights.matrix();
  AlignedBuffer out(static_cast<size_t>(matrix.bytes()));
  const TranscodeArgs args = {nullptr,
                              matrix.stride(),
                              matrix.padded_cols(),
                              0,
                              by_rows ? matrix.groups() : matrix.padded_cols() / 16,
                              out.as<uint8_t>()};
  for (auto _ : state) {
    TranscodeArgs copy = args;
    copy.weights = weights.next();
    (by_rows ? table.rows_to_blocks : table.columns_to_blocks)(copy);
    benchmark::ClobberMemory();
  }
  report(state, matrix.bytes());
}

void lists(benchmark::State& state, const KernelTable& table, bool open) {
  const AlignedBuffer q = activations(kInner);
  std::vector<float> gate(kInner);
  for (size_t i = 0; i < kInner; ++i) gate[i] = q.as<int8_t>()[i] > 40 ? 1.0f : -1.0f;
  std::vector<int32_t> list(kInner + 16);
  std::vector<int8_t> values(kInner + 16);
  for (auto _ : state) {
    benchmark::DoNotOptimize(open
                                 ? table.list_open(gate.data(), 0, kInner, list.data())
                                 : table.list_nonzero(q.as<int8_t>(), 0, kInner, list.data(), values.data()));
    benchmark::ClobberMemory();
  }
}

void register_all(const KernelTable& table) {
  const auto add = [&](const std::string& name, auto run) {
    benchmark::RegisterBenchmark(fmt::format("{}/{}", name, table.name).c_str(),
                                 [&table, run](benchmark::State& state) { run(state, table); });
  };
  for (const bool warm : {false, true}) {
    const char* where = warm ? "cache" : "memory";
    for (const int percent : {100, 50, 33, 18}) {
      const double share = percent / 100.0;
      add(fmt::format("rows/{}%/{}", percent, where),
          [=](auto& state, const auto& t) { rows(state, t, share, warm); });
      add(fmt::format("columns/{}%/{}", percent, where),
          [=](auto& state, const auto& t) { columns(state, t, share, warm); });
    }
    for (const int64_t tokens : {1, 2, 4, 8, 64}) {
      add(fmt::format("whole/tokens:{}/{}", tokens, where),
          [=](auto& state, const auto& t) { whole(state, t, tokens, warm); });
    }
  }
  add("blocks/rows", [](auto& state, const auto& t) { blocks(state, t, TernaryLayout::kRows); });
  add("blocks/columns", [](auto& state, const auto& t) { blocks(state, t, TernaryLayout::kColumns); });
  add("lists/open", [](auto& state, const auto& t) { lists(state, t, true); });
  add("lists/nonzero", [](auto& state, const auto& t) { lists(state, t, false); });
}

}  // namespace
}  // namespace bitnet::kernels

int main(int argc, char** argv) {
  using namespace bitnet::kernels;
  int count = 0;
  const KernelTable* const* tables = runnable_kernels(&count);
  for (int i = 0; i < count; ++i) register_all(*tables[i]);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
