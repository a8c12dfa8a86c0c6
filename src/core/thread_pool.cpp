#include "bitnet/core/thread_pool.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sched.h>

namespace bitnet {
namespace {

// About 50 to 100 us of pauses: longer than the serial stretches between two jobs of a forward pass, shorter
// than anything a person would notice as load. benchmarks/core/thread_pool_benchmark.cpp chose it.
constexpr int kSpins = 2000;

thread_local bool t_inside_task = false;

inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Waits until value != old: spins first, then sleeps in the kernel.
void wait_for_change(const std::atomic<uint32_t>& value, uint32_t old, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    cpu_pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

/// CPUs that the cgroup's quota amounts to, rounded up; 0 if there is no quota.
int cgroup_cpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::max(1, static_cast<int>((std::atof(quota.c_str()) + period - 1) / period));
}

}  // namespace

struct ThreadPool::State {
  int workers = 1;
  int spins = kSpins;
  std::mutex run_mutex;  // one job at a time
  std::atomic<uint32_t> epoch{0};
  std::atomic<uint32_t> running{0};
  std::atomic<bool> stop{false};
  Call call = nullptr;
  void* context = nullptr;
  std::mutex failure_mutex;
  std::exception_ptr failure;
  std::vector<std::thread> threads;

  void execute(int worker) {
    t_inside_task = true;
    try {
      call(context, worker, workers);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
    t_inside_task = false;
  }

  void work(int worker) {
    uint32_t seen = 0;
    for (;;) {
      wait_for_change(epoch, seen, spins);
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      execute(worker);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_all();
    }
  }

  void release_workers() {
    epoch.fetch_add(1, std::memory_order_acq_rel);
    epoch.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  constexpr int kMaxThreads = 4096;
  if (threads < 0 || threads > kMaxThreads) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a thread pool has between 1 and {} threads, not {}", kMaxThreads, threads),
                "use 0 for as many as the machine has");
  }
  state_->workers = threads == 0 ? available() : threads;
  // More threads than processors: whoever spins keeps another from working.
  if (state_->workers > available()) state_->spins = 0;
  try {
    for (int worker = 1; worker < state_->workers; ++worker) {
      state_->threads.emplace_back([state = state_.get(), worker] { state->work(worker); });
    }
  } catch (const std::system_error& error) {
    state_->stop = true;
    state_->release_workers();
    for (std::thread& thread : state_->threads) thread.join();
    throw Error(ErrorCode::kOutOfMemory,
                fmt::format("cannot start {} threads: {}", state_->workers, error.what()),
                "ask for fewer threads");
  }
}

ThreadPool::~ThreadPool() {
  state_->stop = true;
  state_->release_workers();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::size() const {
  return state_->workers;
}

void ThreadPool::run_erased(Call call, void* context) {
  if (t_inside_task) {
    call(context, 0, 1);
    return;
  }
  State& state = *state_;
  const std::lock_guard lock(state.run_mutex);
  state.call = call;
  state.context = context;
  state.running.store(static_cast<uint32_t>(state.workers - 1), std::memory_order_relaxed);
  if (state.workers > 1) state.release_workers();
  state.execute(0);
  for (;;) {
    const uint32_t left = state.running.load(std::memory_order_acquire);
    if (left == 0) break;
    wait_for_change(state.running, left, state.spins);
  }
  if (state.failure) std::rethrow_exception(std::exchange(state.failure, nullptr));
}

ThreadPool::Range ThreadPool::split(int64_t count, int64_t grain, int worker, int workers) {
  const int64_t grains = (count + grain - 1) / grain;
  const int64_t share = grains / workers;
  const int64_t extra = grains % workers;
  const int64_t first = share * worker + std::min<int64_t>(worker, extra);
  const int64_t last = first + share + (worker < extra ? 1 : 0);
  return {std::min(first * grain, count), std::min(last * grain, count)};
}

int ThreadPool::available() {
  static const int count = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    int cpus = 0;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) cpus = CPU_COUNT(&set);
    if (cpus <= 0) cpus = static_cast<int>(std::thread::hardware_concurrency());
    const int quota = cgroup_cpus();
    if (quota > 0) cpus = std::min(cpus, quota);
    return std::max(cpus, 1);
  }();
  return count;
}

}  // namespace bitnet
