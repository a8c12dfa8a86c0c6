#include "bitnet/core/error.h"
#include "kernels/measure/kernel_cases.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

using Clock = std::chrono::steady_clock;

// A call shorter than this is repeated within one measurement, so that the clock's own cost does not show.
constexpr double kShortest = 2e-4;
constexpr int kMeasurements = 7;

double seconds_of(const std::function<void()>& call, int64_t calls) {
  const auto start = Clock::now();
  for (int64_t i = 0; i < calls; ++i) call();
  const std::chrono::duration<double> elapsed = Clock::now() - start;
  return elapsed.count() / static_cast<double>(calls);
}

void check_shapes(const KernelShapes& shapes) {
  const auto positive = [](int64_t value) { return value > 0; };
  const bool sizes = shapes.hidden > 0 && shapes.intermediate > 0 && shapes.heads > 0 &&
                     shapes.kv_heads > 0 && shapes.head_dim > 0 && shapes.head_dim % 2 == 0 &&
                     shapes.heads % shapes.kv_heads == 0 && shapes.vocab > 0 && shapes.cold_bytes >= 0;
  const bool lists = std::all_of(shapes.tokens.begin(), shapes.tokens.end(), positive) &&
                     std::all_of(shapes.lengths.begin(), shapes.lengths.end(), positive);
  const bool kv = shapes.kv == DType::kF32 || shapes.kv == DType::kF16 || shapes.kv == DType::kI8;
  if (sizes && lists && kv) return;
  throw Error(ErrorCode::kInvalidArgument,
              "measure_kernels: every size must be positive, head_dim even and the KV cache f32, f16 or i8");
}

}  // namespace

void KernelMeter::time(KernelSpeed speed, const std::function<void()>& call) {
  int64_t calls = 1;
  call();
  for (double once = seconds_of(call, 1); once * static_cast<double>(calls) < kShortest;) calls *= 2;
  std::vector<double> seconds;
  for (int i = 0; i < kMeasurements; ++i) seconds.push_back(seconds_of(call, calls));
  std::nth_element(seconds.begin(), seconds.begin() + kMeasurements / 2, seconds.end());
  speed.seconds = seconds[kMeasurements / 2];
  results.push_back(std::move(speed));
}

void throw_difference(const KernelSpeed& speed, const KernelTable& table) {
  throw Error(ErrorCode::kInternal,
              fmt::format("measure_kernels: {} {} of table {} differs from the scalar table's result",
                          speed.kernel, speed.shape, table.name),
              "please report this, with the output of bitnet info");
}

}  // namespace bitnet::kernels

namespace bitnet {

std::vector<KernelSpeed> measure_kernels(const KernelShapes& shapes, int threads, std::string_view isa) {
  kernels::check_shapes(shapes);
  ThreadPool pool(threads);
  kernels::KernelMeter meter{
      kernels::select_kernels(isa), kernels::select_kernels("scalar"), pool, shapes, {}};
  kernels::measure_ternary_products(meter);
  kernels::measure_sparse_products(meter);
  kernels::measure_head_products(meter);
  kernels::measure_head_scans(meter);
  kernels::measure_attention(meter);
  kernels::measure_row_kernels(meter);
  return std::move(meter.results);
}

}  // namespace bitnet
