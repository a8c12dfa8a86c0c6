#pragma once

#include "bitnet/memory/pool.h"
#include "bitnet/memory/pressure.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace bitnet {

enum class CleanupStrategy : uint8_t {
  kIdle,       ///< nothing was allocated or freed for a while: trim
  kPeriodic,   ///< now and then, if much of what is held is unused: trim
  kPressure,   ///< memory runs short: evict caches as far as needed, trim
  kEmergency,  ///< memory has run out: evict all caches, trim
};
[[nodiscard]] std::string_view to_string(CleanupStrategy strategy);

struct CleanupOptions {
  std::chrono::milliseconds idle_after{100};
  std::chrono::milliseconds period{1000};
  double periodic_fragmentation = 0.30;  ///< external fragmentation from which on kPeriodic trims
  PressureLevel pressure_at = PressureLevel::kMedium;
};

/// What a cleanup did; bytes and fragmentation as measured. A cache that lies in the pool counts in both
/// sums: what it let go is then what the pool could give back.
struct CleanupReport {
  bool ran = false;
  CleanupStrategy strategy = CleanupStrategy::kIdle;
  int64_t evicted_bytes = 0;  ///< as the caches say
  ReleaseReport pool;         ///< real memory that went back to the system
  double seconds = 0;
};

struct CleanupTotals {
  uint64_t runs = 0;
  int64_t evicted_bytes = 0, released_bytes = 0;
};

/// Frees memory of one pool and of caches that are registered with it. Until start() nothing runs by itself,
/// but for one thing: when the pool is about to fail an allocation, the caches are evicted first
/// (kEmergency). Thread-safe.
class MemoryCleaner {
 public:
  /// Frees at least `wanted` bytes, or what it has, and returns how many it freed. Called from any thread
  /// that allocates, so it must not wait for a lock that is held across allocations.
  using Evict = std::function<int64_t(int64_t wanted_bytes)>;

  /// The pool and the monitor must outlive the cleaner.
  MemoryCleaner(HybridMemoryPool& pool, PressureMonitor& monitor, CleanupOptions options = {});
  MemoryCleaner(const MemoryCleaner&) = delete;
  MemoryCleaner& operator=(const MemoryCleaner&) = delete;
  ~MemoryCleaner();  ///< stops the thread

  /// Caches of low priority go first. Returns an id.
  uint64_t register_cache(std::string name, int priority, Evict evict);
  void remove_cache(uint64_t id);

  /// Does it now.
  CleanupReport clean(CleanupStrategy strategy);
  /// Looks what is due, the most urgent first, and does that: kEmergency at critical pressure, kPressure,
  /// kIdle, kPeriodic. Idle times are known from tracking level kStandard up.
  CleanupReport poll();

  /// A thread of its own that calls poll() every `interval`. Throws kInvalidArgument if it runs already.
  void start(std::chrono::milliseconds interval = std::chrono::milliseconds(100));
  void stop();
  [[nodiscard]] CleanupTotals totals() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  ///< shared with the pool's hook
};

}  // namespace bitnet
