#pragma once

#include "bitnet/memory/pool.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

enum class PressureLevel : uint8_t { kNone, kLow, kMedium, kHigh, kCritical };
[[nodiscard]] std::string_view to_string(PressureLevel level);

/// Shares of a memory in use from which on a level holds. Must rise within (0, 1].
struct PressureThresholds {
  double low = 0.70, medium = 0.80, high = 0.90, critical = 0.95;
  static constexpr PressureThresholds conservative() { return {0.50, 0.65, 0.80, 0.90}; }
  static constexpr PressureThresholds production() { return {0.60, 0.75, 0.85, 0.92}; }
  static constexpr PressureThresholds aggressive() { return {0.80, 0.90, 0.95, 0.98}; }
};

/// What one source says.
struct PressureReading {
  std::string source;
  MemoryCapacity capacity;
  double used_share = 0;
  PressureLevel level = PressureLevel::kNone;
  /// Bytes to be freed until the level is below kLow.
  int64_t excess_bytes = 0;
};

/// How near memory is to its end. Nothing happens by itself: poll() looks (MemoryCleaner calls it).
/// Thread-safe.
class PressureMonitor {
 public:
  /// Of a memory now; nothing where it has no limit or cannot be asked.
  using Query = std::function<std::optional<MemoryCapacity>()>;
  using Callback = std::function<void(const PressureReading& worst)>;

  /// Throws kConfiguration for thresholds that do not rise. A callback is called again after `cooldown`, or
  /// at once if the level is higher than the one it was last called with.
  explicit PressureMonitor(PressureThresholds thresholds = {},
                           std::chrono::milliseconds cooldown = std::chrono::seconds(30));
  PressureMonitor(const PressureMonitor&) = delete;
  PressureMonitor& operator=(const PressureMonitor&) = delete;
  ~PressureMonitor();

  void add_source(std::string name, Query query);
  /// "cgroup": memory.max of this process's cgroups (version 2), the tightest up the hierarchy, against
  /// memory.current less inactive_file. "system": MemTotal against MemAvailable.
  void add_system_sources();
  /// Occupied bytes against PoolOptions::limit_bytes, if there is a limit; and the capacity of a source other
  /// than the system's (a GPU says how much is free). The pool must outlive the monitor.
  void add_pool(std::string name, const HybridMemoryPool& pool);

  /// Calls `callback` from poll(), without locks, when the worst level is at least this. Returns an id.
  uint64_t on_pressure(PressureLevel at_least, Callback callback);
  void remove_callback(uint64_t id);

  /// All sources that answer, worst first.
  [[nodiscard]] std::vector<PressureReading> read() const;
  /// Reads, calls callbacks, and returns the worst reading (level kNone and no name without sources).
  PressureReading poll();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bitnet
