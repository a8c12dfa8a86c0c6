#include "kernels/cpu/contest.h"

#include "kernels/cpu/select.h"
#include "kernels/cpu/tables.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <vector>

namespace bitnet::kernels {
namespace {

double shortest_time(const KernelTable& table, const TernaryMatmulArgs& args) {
  constexpr int kRuns = 5;
  double shortest = std::numeric_limits<double>::infinity();
  for (int run = 0; run < kRuns; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    table.ternary_matmul(args);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    shortest = std::min(shortest, time.count());
  }
  return shortest;
}

}  // namespace

std::vector<const KernelTable*> close_tables(const CpuFeatures& features) {
#if defined(__x86_64__)
  const std::vector<const KernelTable*> tables = runnable(features);
  if (tables.front() == &avx512vnni::kTable && tables[1] == &avxvnni::kTable) return {tables[0], tables[1]};
#else
  (void)features;
#endif
  return {};
}

double measure_ternary(const KernelTable& table) {
  constexpr int64_t kRows = 512, kCols = 1024, kTokens = 12;
  const std::vector<uint8_t> weights(static_cast<size_t>(kRows * kCols / 4), 0x55);  // all trits 0
  const std::vector<float> row_scale(static_cast<size_t>(kRows), 1.0f), scale(kTokens, 1.0f);
  const std::vector<int8_t> q(static_cast<size_t>(kTokens * kCols), 1);
  const std::vector<int32_t> sum(kTokens, static_cast<int32_t>(kCols));
  std::vector<float> y(static_cast<size_t>(kTokens * kRows));
  TernaryMatmulArgs args = {.weights = weights.data(),
                            .row_scale = row_scale.data(),
                            .rows = kRows,
                            .padded_cols = kCols,
                            .first_group = 0,
                            .last_group = kRows / 16,
                            .tokens = 1,
                            .q = q.data(),
                            .q_stride = kCols,
                            .scale = scale.data(),
                            .sum = sum.data(),
                            .y = y.data(),
                            .y_stride = kRows};
  const double decode = shortest_time(table, args);
  args.tokens = kTokens;
  return decode + shortest_time(table, args);
}

const KernelTable& fastest(const std::vector<Contender>& contenders) {
  constexpr double kClearlyLess = 0.9;
  const auto best = std::min_element(contenders.begin(), contenders.end(),
                                     [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
  return *(best->seconds < kClearlyLess * contenders.front().seconds ? best : contenders.begin())->table;
}

}  // namespace bitnet::kernels
