#include "bitnet/memory/pressure.h"

#include "memory/system_memory.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <utility>

#include <fmt/format.h>

namespace bitnet {

using Clock = std::chrono::steady_clock;

std::string_view to_string(PressureLevel level) {
  constexpr std::array<std::string_view, 5> names = {"none", "low", "medium", "high", "critical"};
  return names[static_cast<size_t>(level)];
}

struct PressureMonitor::State {
  struct Source {
    std::string name;
    Query query;
  };
  struct Listener {
    uint64_t id;
    PressureLevel at_least;
    Callback callback;
    PressureLevel last_level = PressureLevel::kNone;
    Clock::time_point last_time{};
  };
  PressureThresholds thresholds;
  std::chrono::milliseconds cooldown;
  mutable std::mutex mutex;
  std::vector<Source> sources;
  std::vector<Listener> listeners;
  uint64_t next_id = 1;

  [[nodiscard]] PressureLevel level_of(double share) const {
    if (share >= thresholds.critical) return PressureLevel::kCritical;
    if (share >= thresholds.high) return PressureLevel::kHigh;
    if (share >= thresholds.medium) return PressureLevel::kMedium;
    return share >= thresholds.low ? PressureLevel::kLow : PressureLevel::kNone;
  }
  /// The callbacks that are due, marked as called.
  std::vector<Callback> due(PressureLevel level) {
    std::vector<Callback> due;
    const Clock::time_point now = Clock::now();
    const std::lock_guard lock(mutex);
    for (Listener& listener : listeners) {
      if (level < listener.at_least || level == PressureLevel::kNone) {
        listener.last_level = PressureLevel::kNone;
        continue;
      }
      if (level <= listener.last_level && now - listener.last_time < cooldown) continue;
      listener.last_level = level;
      listener.last_time = now;
      due.push_back(listener.callback);
    }
    return due;
  }
};

PressureMonitor::PressureMonitor(PressureThresholds thresholds, std::chrono::milliseconds cooldown)
    : state_(std::make_unique<State>()) {
  const auto& [low, medium, high, critical] = thresholds;
  if (!(0 < low && low < medium && medium < high && high < critical && critical <= 1)) {
    throw Error(ErrorCode::kConfiguration,
                fmt::format("pressure thresholds must rise within (0, 1], not {}, {}, {}, {}", low, medium,
                            high, critical));
  }
  state_->thresholds = thresholds;
  state_->cooldown = cooldown;
}

PressureMonitor::~PressureMonitor() = default;

void PressureMonitor::add_source(std::string name, Query query) {
  const std::lock_guard lock(state_->mutex);
  state_->sources.push_back({std::move(name), std::move(query)});
}

void PressureMonitor::add_system_sources() {
  add_source("cgroup", [] { return memory::cgroup_memory(); });
  add_source("system", [] { return memory::system_memory(); });
}

void PressureMonitor::add_pool(std::string name, const HybridMemoryPool& pool) {
  if (const auto limit = static_cast<int64_t>(pool.options().limit_bytes); limit != 0) {
    add_source(name + " limit", [&pool, limit] {
      return MemoryCapacity{pool.stats().occupied_bytes, limit};
    });
  }
  if (!pool.source().lazy()) {
    add_source(std::move(name), [&pool] { return pool.source().capacity(); });
  }
}

uint64_t PressureMonitor::on_pressure(PressureLevel at_least, Callback callback) {
  const std::lock_guard lock(state_->mutex);
  state_->listeners.push_back({state_->next_id, at_least, std::move(callback)});
  return state_->next_id++;
}

void PressureMonitor::remove_callback(uint64_t id) {
  const std::lock_guard lock(state_->mutex);
  std::erase_if(state_->listeners, [id](const State::Listener& listener) { return listener.id == id; });
}

std::vector<PressureReading> PressureMonitor::read() const {
  std::vector<State::Source> sources;
  {
    const std::lock_guard lock(state_->mutex);
    sources = state_->sources;
  }
  std::vector<PressureReading> readings;
  for (const auto& [name, query] : sources) {
    const std::optional<MemoryCapacity> capacity = query();
    if (!capacity || capacity->total_bytes <= 0) continue;
    const auto total = static_cast<double>(capacity->total_bytes);
    const double share = static_cast<double>(capacity->used_bytes) / total;
    const double excess = static_cast<double>(capacity->used_bytes) - state_->thresholds.low * total;
    readings.push_back({name, *capacity, share, state_->level_of(share),
                        static_cast<int64_t>(std::ceil(std::max(0.0, excess)))});
  }
  std::ranges::stable_sort(readings, std::greater<>(), &PressureReading::used_share);
  return readings;
}

PressureReading PressureMonitor::poll() {
  const std::vector<PressureReading> readings = read();
  PressureReading worst = readings.empty() ? PressureReading{} : readings.front();
  for (const Callback& callback : state_->due(worst.level)) callback(worst);
  return worst;
}

}  // namespace bitnet
