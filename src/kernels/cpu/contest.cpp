#include "kernels/cpu/contest.h"

#include "bitnet/core/memory.h"
#include "kernels/cpu/select.h"
#include "kernels/cpu/tables.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace bitnet::kernels {
namespace {

template <class Run>
double shortest_time(Run&& run) {
  constexpr int kRuns = 5;
  double shortest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRuns; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    shortest = std::min(shortest, time.count());
  }
  return shortest;
}

/// Up to 12 tokens for matrices of any number of rows.
struct Operands {
  Operands(int64_t rows, int64_t cols)
      : row_scale(static_cast<size_t>(rows), 1.0f),
        q(static_cast<size_t>(kTokens * cols), 1),
        y(static_cast<size_t>(kTokens * rows)),
        args{.weights = nullptr,
             .row_scale = row_scale.data(),
             .rows = rows,
             .padded_cols = cols,
             .first_group = 0,
             .last_group = rows / 16,
             .tokens = 1,
             .q = q.data(),
             .q_stride = cols,
             .scale = scale.data(),
             .sum = sum.data(),
             .y = y.data(),
             .y_stride = rows} {
    scale.fill(1.0f);
    sum.fill(static_cast<int32_t>(cols));
  }
  static constexpr int64_t kTokens = 12;
  std::vector<float> row_scale;
  std::vector<int8_t> q;
  std::array<float, kTokens> scale{};
  std::array<int32_t, kTokens> sum{};
  std::vector<float> y;
  TernaryMatmulArgs args;
};

}  // namespace

std::vector<const KernelTable*> close_tables(const CpuFeatures& features) {
#if defined(__x86_64__)
  const KernelTable* const best = runnable(features).front();
  const bool wide = best == &avx512vnni::kTable || best == &avx512vnni::kVbmiTable;
  if (wide && features.avx_vnni) return {best, &avxvnni::kTable};
#else
  (void)features;
#endif
  return {};
}

double measure_ternary(const KernelTable& table) {
  constexpr int64_t kRows = 512, kCols = 1024;
  const std::vector<uint8_t> weights(static_cast<size_t>(kRows * kCols / 4), 0x55);  // all trits 0
  Operands operands(kRows, kCols);
  operands.args.weights = weights.data();
  const double decode = shortest_time([&] { table.ternary_matmul(operands.args); });
  operands.args.tokens = Operands::kTokens;
  return decode + shortest_time([&] { table.ternary_matmul(operands.args); });
}

MeasuredLayouts measure_layouts(const KernelTable& table, ThreadPool& pool) {
  constexpr int64_t kRows = int64_t{1} << 16, kCols = int64_t{1} << 12;
  AlignedBuffer weights(static_cast<size_t>(kRows * kCols / 4));
  pool.for_range(static_cast<int64_t>(weights.size()), 4096, [&](int64_t begin, int64_t end) {
    std::fill(weights.data() + begin, weights.data() + end, std::byte{0x55});
  });
  Operands operands(kRows, kCols);
  operands.args.weights = weights.as<uint8_t>();
  const auto time = [&](auto product) {
    return shortest_time([&] {
      pool.for_pieces(kRows / 16, 2, [&](int64_t begin, int64_t end, int) {  // as the products of a model
        TernaryMatmulArgs part = operands.args;
        part.first_group = begin;
        part.last_group = end;
        product(part);
      });
    });
  };
  // Any bytes are codes of t53x16.
  const double blocks = time(table.ternary_matmul), tight = time(table.ternary_tight);
  return {blocks, tight, tight_pays(blocks, tight)};
}

bool tight_pays(double blocks_seconds, double tight_seconds) {
  constexpr double kClearlyLess = 0.95;
  return tight_seconds < kClearlyLess * blocks_seconds;
}

const KernelTable& fastest(const std::vector<Contender>& contenders) {
  constexpr double kClearlyLess = 0.9;
  const auto best = std::min_element(contenders.begin(), contenders.end(),
                                     [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
  return *(best->seconds < kClearlyLess * contenders.front().seconds ? best : contenders.begin())->table;
}

}  // namespace bitnet::kernels
