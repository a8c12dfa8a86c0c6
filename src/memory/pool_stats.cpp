#include "memory/pool_impl.h"

#include <algorithm>
#include <bit>

namespace bitnet {

double PoolStats::success_rate() const {
  if (allocations == 0) return 1;
  return 1 - static_cast<double>(system_requests) / static_cast<double>(allocations);
}

double PoolStats::internal_fragmentation() const {
  if (occupied_bytes <= 0) return 0;
  return 1 - static_cast<double>(live_bytes) / static_cast<double>(occupied_bytes);
}

double PoolStats::external_fragmentation() const {
  if (held_bytes <= 0) return 0;
  return 1 - static_cast<double>(occupied_bytes) / static_cast<double>(held_bytes);
}

PoolStats HybridMemoryPool::stats() const {
  Impl& impl = *impl_;
  PoolStats stats;
  const memory::LargeStats large = impl.large.stats();
  stats.reserved_bytes = large.reserved;
  stats.held_bytes = large.held;
  stats.peak_held_bytes = large.peak_held;
  stats.largest_free_bytes = large.largest_free;
  stats.system_requests = impl.system_requests.load(std::memory_order_relaxed);

  const auto count = [&stats](const memory::ThreadCache& cache) {
    for (uint32_t c = 0; c < memory::kClasses; ++c) {
      const memory::CacheBin& bin = cache.bins[c];
      const size_t bytes = memory::class_bytes(c);
      stats.cached_bytes += static_cast<int64_t>(bin.count.load(std::memory_order_relaxed) * bytes);
      const uint64_t allocations = bin.allocations.load(std::memory_order_relaxed);
      stats.size_histogram[static_cast<size_t>(std::bit_width(bytes - 1))] += allocations;
      stats.allocations += allocations;
      stats.frees += bin.frees.load(std::memory_order_relaxed);
    }
    stats.live_bytes += static_cast<int64_t>(cache.allocated_bytes.load(std::memory_order_relaxed) -
                                             cache.freed_bytes.load(std::memory_order_relaxed));
  };
  {
    const std::scoped_lock lock(impl.caches_mutex, impl.shared_mutex);
    for (const memory::ThreadCache* cache : impl.caches) count(*cache);
    count(impl.shared);
  }
  for (size_t i = 0; i < impl.large_allocations.size(); ++i) {
    const uint64_t allocations = impl.large_allocations[i].load(std::memory_order_relaxed);
    stats.size_histogram[i] += allocations;
    stats.allocations += allocations;
  }
  stats.frees += impl.large_frees.load(std::memory_order_relaxed);
  stats.live_blocks = static_cast<int64_t>(stats.allocations - stats.frees);
  stats.occupied_bytes = large.used - impl.small.unused_bytes() - stats.cached_bytes;
  const TrackingLevel level = impl.level.load();
  stats.peak_live_bytes = level >= TrackingLevel::kDetailed
                              ? impl.tracker.peak_bytes()
                              : std::max(impl.peak_bytes.load(std::memory_order_relaxed), stats.live_bytes);
  return stats;
}

TrackingLevel HybridMemoryPool::tracking() const {
  return impl_->level.load();
}

void HybridMemoryPool::set_tracking(TrackingLevel level) {
  const std::lock_guard lock(impl_->mode_mutex);
  const TrackingLevel old = impl_->level.load();
  if (level == old) return;
  if (level == TrackingLevel::kOff || old == TrackingLevel::kOff) {
    throw Error(ErrorCode::kInvalidArgument, "tracking of a memory pool cannot be switched on or off later",
                "set PoolOptions::tracking when the pool is made; between the other levels it can change");
  }
  if (level >= TrackingLevel::kDetailed && old < TrackingLevel::kDetailed)
    impl_->tracker.start(stats().live_bytes);
  impl_->level.store(level);
  update_mode();
}

std::vector<TagStats> HybridMemoryPool::tag_stats() const {
  return impl_->tracker.tags();
}

LeakReport HybridMemoryPool::Impl::live(uint64_t since, double min_age_seconds,
                                        const PoolStats& stats) const {
  if (level.load() >= TrackingLevel::kDetailed) return tracker.live(since, min_age_seconds);
  return {stats.live_bytes, stats.live_blocks, {}};
}

LeakReport HybridMemoryPool::live_blocks(uint64_t since) const {
  return impl_->live(since, 0, stats());
}

uint64_t HybridMemoryPool::allocation_sequence() const {
  return impl_->tracker.sequence();
}

LeakReport HybridMemoryPool::leak_candidates(double min_age_seconds) const {
  require_records("leak candidates");
  return impl_->tracker.live(0, min_age_seconds);
}

std::vector<TimelineEvent> HybridMemoryPool::timeline() const {
  return impl_->tracker.timeline();
}

std::string HybridMemoryPool::timeline_json() const {
  return impl_->tracker.timeline_json();
}

std::string HybridMemoryPool::timeline_chrome_trace() const {
  return impl_->tracker.timeline_chrome_trace();
}

void HybridMemoryPool::require_records(std::string_view what) const {
  if (tracking() >= TrackingLevel::kDetailed) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      std::string(what) + " need tracking level detailed or debug, not " + std::string(to_string(tracking())),
      "call set_tracking(TrackingLevel::kDetailed) before the allocations of interest");
}

LeakScope::LeakScope(const HybridMemoryPool& pool) : pool_(pool), since_(pool.allocation_sequence()) {
  pool.require_records("leak scopes");
}

}  // namespace bitnet
