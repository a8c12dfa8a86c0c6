// Fork and join latency: our thread pool and, in the same run, OpenMP. Each iteration forks one job in which
// every worker adds up its share of an array (`floats` in all), then joins; `pause_us` of serial work lies
// between two jobs, as in a decoder layer. The sum is checked before anything is timed.
//   OMP_WAIT_POLICY=active (spin) and passive (sleep) are the two ways to run OpenMP; default lies between.

#include "bitnet/core/thread_pool.h"

#include <chrono>
#include <cmath>
#include <numeric>
#include <vector>

#include <benchmark/benchmark.h>

#ifdef BITNET_WITH_OPENMP
#include <omp.h>
#endif

namespace {

struct alignas(64) Partial {
  float sum = 0;
};

class Work {
 public:
  Work(int64_t floats, int workers)
      : values_(static_cast<size_t>(floats), 0.5f), partials_(static_cast<size_t>(workers)) {}

  void share(int worker, int workers) {
    const auto [begin, end] =
        bitnet::ThreadPool::split(static_cast<int64_t>(values_.size()), 16, worker, workers);
    partials_[static_cast<size_t>(worker)].sum =
        std::accumulate(values_.begin() + begin, values_.begin() + end, 0.0f);
  }
  [[nodiscard]] bool correct() const {
    float sum = 0;
    for (const Partial& partial : partials_) sum += partial.sum;
    return std::abs(sum - 0.5f * static_cast<float>(values_.size())) < 1;
  }

 private:
  std::vector<float> values_;
  std::vector<Partial> partials_;
};

void serial_work(int64_t microseconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (std::chrono::steady_clock::now() < end) {
  }
}

template <class Fork>
void measure(benchmark::State& state, int workers, Work& work, Fork&& fork) {
  fork();
  if (!work.correct()) {
    state.SkipWithError("wrong sum");
    return;
  }
  const int64_t pause_us = state.range(2);
  for (auto _ : state) {
    serial_work(pause_us);
    const auto start = std::chrono::steady_clock::now();
    fork();
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  state.counters["workers"] = workers;
}

void thread_pool(benchmark::State& state) {
  const int workers = static_cast<int>(state.range(0));
  bitnet::ThreadPool pool(workers);
  Work work(state.range(1), workers);
  measure(state, workers, work, [&] { pool.run([&](int worker, int count) { work.share(worker, count); }); });
}

#ifdef BITNET_WITH_OPENMP
void openmp(benchmark::State& state) {
  const int workers = static_cast<int>(state.range(0));
  Work work(state.range(1), workers);
  measure(state, workers, work, [&] {
#pragma omp parallel num_threads(workers)
    work.share(omp_get_thread_num(), omp_get_num_threads());
  });
}
#endif

void shapes(benchmark::internal::Benchmark* benchmark) {
  const int machine = bitnet::ThreadPool::available();
  for (int workers = 1; workers <= machine; workers *= 2) {
    for (const int64_t floats : {0, 4096}) {
      for (const int64_t pause_us : {0, 20}) benchmark->Args({workers, floats, pause_us});
    }
  }
  benchmark->ArgNames({"workers", "floats", "pause_us"})->UseManualTime()->Unit(benchmark::kMicrosecond);
}

BENCHMARK(thread_pool)->Apply(shapes);
#ifdef BITNET_WITH_OPENMP
BENCHMARK(openmp)->Apply(shapes);
#endif

}  // namespace
