#pragma once

#include "bitnet/memory/pool.h"
#include "memory/handle_table.h"
#include "memory/large_blocks.h"
#include "memory/small_blocks.h"
#include "memory/tracker.h"

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace bitnet {

inline constexpr uint32_t kNoClass = ~uint32_t{0};

/// The class whose blocks serve this size and alignment, or kNoClass for a range of its own. Slabs are
/// aligned to their 64 KB, so power-of-two blocks in them are aligned to their size.
[[nodiscard]] constexpr uint32_t cached_class(size_t bytes, size_t alignment) {
  if (alignment <= memory::kBlockAlignment) {
    return bytes <= memory::kMediumLimit ? memory::size_class(bytes) : kNoClass;
  }
  if (alignment > memory::kSmallLimit || bytes > memory::kSmallLimit) return kNoClass;
  return memory::size_class(std::bit_ceil(bytes > alignment ? bytes : alignment));
}

struct HybridMemoryPool::Impl {
  Impl(std::shared_ptr<MemorySource> source, PoolOptions options);

  std::shared_ptr<MemorySource> source;
  PoolOptions options;
  memory::LargeBlocks large;
  memory::SmallBlocks small;
  memory::HandleTable handles;
  memory::Tracker tracker;

  std::mutex mode_mutex;
  std::atomic<TrackingLevel> level;
  std::atomic<uint64_t> failing{0};  ///< allocations until one fails; 0 = none will

  std::mutex caches_mutex;
  std::vector<memory::ThreadCache*> caches;
  /// For threads that have none: pools beyond kCacheSlots, threads about to end. Also holds the counters of
  /// threads that have ended.
  memory::ThreadCache shared;
  std::mutex shared_mutex;

  std::array<std::atomic<uint64_t>, 48> large_allocations{};
  std::atomic<uint64_t> large_frees{0}, system_requests{0}, trim_epoch{0};
  std::atomic<int64_t> published_bytes{0}, peak_bytes{0};

  std::mutex hook_mutex;
  std::function<bool(size_t)> out_of_memory_hook;

  // thread_cache.cpp
  static void prepare(memory::ThreadCache& cache, HybridMemoryPool* pool);
  void* take(memory::ThreadCache& cache, uint32_t size_class, size_t zero_bytes, bool& zeroed,
             bool& asked_system);
  void give(memory::ThreadCache& cache, uint32_t size_class, void* block) noexcept;
  void flush(memory::ThreadCache& cache, uint32_t size_class, uint32_t blocks) noexcept;
  void flush_all(memory::ThreadCache& cache) noexcept;
  void retire(memory::ThreadCache& cache) noexcept;
  void publish(memory::ThreadCache& cache) noexcept;

  [[nodiscard]] LeakReport live(uint64_t since, double min_age_seconds, const PoolStats& stats) const;
};

/// The threads' side of pools: slots, creation and end of thread caches.
struct PoolThreads {
  /// A slot, or kCacheSlots if all are taken.
  static uint32_t acquire_slot();
  /// Ends the pool's caches in all threads. No thread may be inside the pool.
  static void release(HybridMemoryPool& pool) noexcept;
  /// The calling thread's cache, made if need be; null if it cannot have one.
  static memory::ThreadCache* cache_of(HybridMemoryPool& pool) noexcept;
  static void thread_ends() noexcept;
};

}  // namespace bitnet
