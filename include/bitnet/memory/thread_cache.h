#pragma once

// What HybridMemoryPool's inlined path needs; not for users.

#include "bitnet/memory/size_classes.h"

#include <array>
#include <atomic>
#include <memory>

namespace bitnet {
class HybridMemoryPool;
}

namespace bitnet::memory {

/// Pools that can have thread caches at the same time; further ones work without, behind a lock.
inline constexpr uint32_t kCacheSlots = 32;

/// Free blocks of one class, a stack. Only the owning thread writes; others read the counts for statistics,
/// which is why they are atomics (relaxed: plain moves).
struct CacheBin {
  std::atomic<uint32_t> count{0};
  std::atomic<uint32_t> capacity{0};  ///< 0: no blocks may be kept, the slow path decides
  void** blocks = nullptr;
  std::atomic<uint64_t> allocations{0};
  std::atomic<uint64_t> frees{0};
};

/// The free blocks and counters of one thread in one pool. Blocks are kept as pointers beside the memory, not
/// as a list inside it, so that one cache serves memory that the host cannot touch.
struct ThreadCache {
  std::array<CacheBin, kClasses> bins;
  std::atomic<uint64_t> allocated_bytes{0};  ///< as asked for
  std::atomic<uint64_t> freed_bytes{0};
  std::atomic<uint64_t> cached_bytes{0};  ///< medium blocks kept; small ones follow from the counts
  uint64_t trim_epoch = 0;
  int64_t published_bytes = 0;  ///< allocated - freed, as the pool's peak has seen it
  HybridMemoryPool* pool = nullptr;
  std::unique_ptr<void*[]> storage;
};

/// Always empty and never full: what a thread has before its first allocation and after its last.
extern constinit ThreadCache g_empty_cache;
/// This thread's cache in each pool, by the pool's slot; the last entry is for pools without caches.
extern constinit thread_local std::array<ThreadCache*, kCacheSlots + 1> t_caches;

/// A counter with one writer.
inline void add(std::atomic<uint64_t>& counter, uint64_t value) {
  counter.store(counter.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

}  // namespace bitnet::memory
