#include "bitnet/memory/cleanup.h"

#include "bitnet/core/log.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet {

using Clock = std::chrono::steady_clock;

std::string_view to_string(CleanupStrategy strategy) {
  constexpr std::array<std::string_view, 4> names = {"idle", "periodic", "pressure", "emergency"};
  return names[static_cast<size_t>(strategy)];
}

struct MemoryCleaner::State {
  struct Cache {
    uint64_t id;
    std::string name;
    int priority;
    Evict evict;
  };
  State(HybridMemoryPool& of, PressureMonitor& with, CleanupOptions chosen)
      : pool(of), monitor(with), options(chosen) {}

  HybridMemoryPool& pool;
  PressureMonitor& monitor;
  const CleanupOptions options;

  mutable std::mutex mutex;  ///< caches, totals, thread
  std::vector<Cache> caches;
  CleanupTotals totals;
  uint64_t next_id = 1;
  std::jthread thread;

  std::mutex clean_mutex;  ///< one cleanup at a time
  std::atomic<std::thread::id> cleaning{};

  // Of poll().
  std::mutex poll_mutex;
  uint64_t activity = 0;
  bool idle_done = false;
  Clock::time_point active_at = Clock::now(), periodic_at = Clock::now();

  int64_t evict(int64_t wanted);
  CleanupReport clean(CleanupStrategy strategy, int64_t wanted);
  CleanupReport poll();
};

int64_t MemoryCleaner::State::evict(int64_t wanted) {
  std::vector<Cache> in_order;
  {
    const std::lock_guard lock(mutex);
    in_order = caches;
  }
  std::ranges::stable_sort(in_order, {}, &Cache::priority);
  int64_t freed = 0;
  for (const Cache& cache : in_order) {
    if (freed >= wanted) break;
    try {
      freed += cache.evict(wanted - freed);
    } catch (const std::exception& error) {
      log_message(LogLevel::kError, fmt::format("evicting cache {} failed: {}", cache.name, error.what()));
    }
  }
  return freed;
}

CleanupReport MemoryCleaner::State::clean(CleanupStrategy strategy, int64_t wanted) {
  // A cache that allocates while it is evicted, and fails, must not start over.
  if (cleaning.load() == std::this_thread::get_id()) return {};
  const std::lock_guard lock(clean_mutex);
  cleaning = std::this_thread::get_id();
  const Clock::time_point start = Clock::now();
  const PoolStats before = pool.stats();
  CleanupReport report{true, strategy, evict(wanted), pool.trim()};
  report.pool.held_before = before.held_bytes;
  report.pool.external_fragmentation_before = before.external_fragmentation();
  report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  cleaning = std::thread::id();
  const std::lock_guard totals_lock(mutex);
  ++totals.runs;
  totals.evicted_bytes += report.evicted_bytes;
  totals.released_bytes += report.pool.released_bytes;
  return report;
}

CleanupReport MemoryCleaner::State::poll() {
  const std::lock_guard lock(poll_mutex);
  const PressureReading worst = monitor.poll();
  if (worst.level == PressureLevel::kCritical) {
    return clean(CleanupStrategy::kEmergency, std::numeric_limits<int64_t>::max());
  }
  if (worst.level != PressureLevel::kNone && worst.level >= options.pressure_at) {
    return clean(CleanupStrategy::kPressure, worst.excess_bytes);
  }
  const Clock::time_point now = Clock::now();
  const PoolStats stats = pool.stats();
  if (stats.allocations + stats.frees != activity) {
    activity = stats.allocations + stats.frees;
    active_at = now;
    idle_done = false;
  } else if (!idle_done && activity != 0 && now - active_at >= options.idle_after) {
    idle_done = true;
    return clean(CleanupStrategy::kIdle, 0);
  }
  if (now - periodic_at >= options.period) {
    periodic_at = now;
    if (stats.external_fragmentation() >= options.periodic_fragmentation)
      return clean(CleanupStrategy::kPeriodic, 0);
  }
  return {};
}

MemoryCleaner::MemoryCleaner(HybridMemoryPool& pool, PressureMonitor& monitor, CleanupOptions options)
    : state_(std::make_shared<State>(pool, monitor, options)) {
  pool.set_out_of_memory_hook([state = state_](size_t /*bytes*/) {
    return state->clean(CleanupStrategy::kEmergency, std::numeric_limits<int64_t>::max()).ran;
  });
}

MemoryCleaner::~MemoryCleaner() {
  state_->pool.set_out_of_memory_hook(nullptr);
  stop();
}

uint64_t MemoryCleaner::register_cache(std::string name, int priority, Evict evict) {
  const std::lock_guard lock(state_->mutex);
  state_->caches.push_back({state_->next_id, std::move(name), priority, std::move(evict)});
  return state_->next_id++;
}

void MemoryCleaner::remove_cache(uint64_t id) {
  // Waits for a cleanup that may be using the cache.
  std::unique_lock cleaning(state_->clean_mutex, std::defer_lock);
  if (state_->cleaning.load() != std::this_thread::get_id()) cleaning.lock();
  const std::lock_guard lock(state_->mutex);
  std::erase_if(state_->caches, [id](const State::Cache& cache) { return cache.id == id; });
}

CleanupReport MemoryCleaner::clean(CleanupStrategy strategy) {
  switch (strategy) {
    case CleanupStrategy::kIdle:
    case CleanupStrategy::kPeriodic:
      return state_->clean(strategy, 0);
    case CleanupStrategy::kPressure: {
      const std::vector<PressureReading> readings = state_->monitor.read();
      return state_->clean(strategy, readings.empty() ? 0 : readings.front().excess_bytes);
    }
    case CleanupStrategy::kEmergency:
      break;
  }
  return state_->clean(strategy, std::numeric_limits<int64_t>::max());
}

CleanupReport MemoryCleaner::poll() {
  return state_->poll();
}

void MemoryCleaner::start(std::chrono::milliseconds interval) {
  const std::lock_guard lock(state_->mutex);
  if (state_->thread.joinable()) {
    throw Error(ErrorCode::kInvalidArgument, "the memory cleaner's thread runs already", "call stop() first");
  }
  // The thread ends before the state does: stop() joins it.
  state_->thread = std::jthread([state = state_.get(), interval](const std::stop_token& stopping) {
    std::mutex alone;  // only the stop request wakes
    std::condition_variable_any wake;
    std::unique_lock sleeping(alone);
    while (!wake.wait_for(sleeping, stopping, interval, [&stopping] { return stopping.stop_requested(); })) {
      try {
        state->poll();
      } catch (const std::exception& error) {
        log_message(LogLevel::kError, fmt::format("cleaning memory failed: {}", error.what()));
      }
    }
  });
}

void MemoryCleaner::stop() {
  std::jthread ending;
  {
    const std::lock_guard lock(state_->mutex);
    ending = std::move(state_->thread);
  }
}  // joined here

CleanupTotals MemoryCleaner::totals() const {
  const std::lock_guard lock(state_->mutex);
  return state_->totals;
}

}  // namespace bitnet
