#include "bitnet/core/error.h"
#include "bitnet/core/thread_pool.h"
#include "bitnet/kernels/measure.h"
#include "kernels/kernel_table.h"
#include "kernels/measure/int8_peak.h"
#include "kernels/measure/read_speed.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace bitnet {
namespace {

// Long enough that starting the threads does not count, short enough for a lane of every kind.
constexpr double kPassSeconds = 0.02;
constexpr int kPasses = 5;

/// Seconds of one pass of `rounds` rounds on every thread.
double time_pass(ThreadPool& pool, const kernels::Int8Peak& peak, int64_t rounds) {
  std::atomic<bool> wrong = false;
  const auto start = std::chrono::steady_clock::now();
  pool.run([&](int, int) {
    if (peak.run(rounds) != rounds * peak.macs_per_round) wrong = true;
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (wrong) throw Error(ErrorCode::kInternal, "measure_machine: a sum of int8 products is wrong");
  return elapsed.count();
}

double measure_int8_peak(ThreadPool& pool, const kernels::Int8Peak& peak) {
  int64_t rounds = 1024;
  while (rounds * 2 <= peak.most_rounds && time_pass(pool, peak, rounds) < kPassSeconds) rounds *= 2;
  double seconds = time_pass(pool, peak, rounds);
  for (int pass = 1; pass < kPasses; ++pass) seconds = std::min(seconds, time_pass(pool, peak, rounds));
  return static_cast<double>(rounds) * static_cast<double>(peak.macs_per_round) * pool.size() / seconds;
}

}  // namespace

MachineBound measure_machine(int threads, std::string_view isa, int64_t buffer_bytes) {
  const kernels::Int8Peak& peak = kernels::int8_peak(kernels::select_kernels(isa).name);
  ThreadPool pool(threads);
  MachineBound bound;
  bound.threads = pool.size();
  bound.int8_instruction = peak.instruction;
  bound.read_bytes_per_second =
      kernels::measure_read_speed(pool, buffer_bytes > 0 ? buffer_bytes : kernels::default_read_bytes());
  bound.int8_macs_per_second = measure_int8_peak(pool, peak);
  return bound;
}

}  // namespace bitnet
