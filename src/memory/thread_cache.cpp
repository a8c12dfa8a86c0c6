#include "bitnet/memory/thread_cache.h"

#include "bitnet/core/log.h"
#include "memory/pool_impl.h"

#include <algorithm>
#include <new>
#include <span>

namespace bitnet {
namespace memory {

constinit ThreadCache g_empty_cache;

constinit thread_local std::array<ThreadCache*, kCacheSlots + 1> t_caches = [] {
  std::array<ThreadCache*, kCacheSlots + 1> caches{};
  caches.fill(&g_empty_cache);
  return caches;
}();

namespace {

/// At most 32 KB of each small class per thread, of which all classes together could make 2 MB; a few medium
/// blocks under a budget of their own.
constexpr size_t kSmallBinBytes = size_t{32} << 10;
constexpr size_t kMediumBudget = size_t{2} << 20;
/// The lines of the pool's counters are not to be passed around for less.
constexpr int64_t kPublishedBytes = int64_t{1} << 20;

constexpr uint32_t capacity_of(uint32_t size_class) {
  const size_t bytes = class_bytes(size_class);
  if (size_class < kSmallClasses)
    return static_cast<uint32_t>(std::clamp<size_t>(kSmallBinBytes / bytes, 4, 64));
  return bytes <= kMediumLimit / 4 ? 4 : 2;
}

constexpr size_t kStorage = [] {
  size_t blocks = 0;
  for (uint32_t c = 0; c < kClasses; ++c) blocks += capacity_of(c);
  return blocks;
}();

/// Protects slots and ThreadCache::pool.
constinit std::mutex g_mutex;
constinit std::array<bool, kCacheSlots> g_slot_taken{};

constinit thread_local bool t_ended = false;
struct ThreadEnd {
  ~ThreadEnd() { PoolThreads::thread_ends(); }
};

void log_foreign(size_t count) noexcept {
  try {
    log_message(LogLevel::kError,
                std::to_string(count) +
                    " blocks were freed that this memory pool did not hand out, with another size "
                    "than allocated, or twice; they were left alone");
  } catch (...) {  // NOLINT(bugprone-empty-catch): a log that has no memory has nothing to say
  }
}

}  // namespace
}  // namespace memory

using namespace memory;  // NOLINT(google-build-using-namespace): this file is about its types only

void HybridMemoryPool::Impl::prepare(ThreadCache& cache, HybridMemoryPool* pool) {
  if (!cache.storage) cache.storage = std::make_unique<void*[]>(kStorage);
  void** blocks = cache.storage.get();
  for (uint32_t c = 0; c < kClasses; ++c) {
    cache.bins[c].blocks = blocks;
    blocks += capacity_of(c);
    cache.bins[c].capacity.store(capacity_of(c), std::memory_order_relaxed);
  }
  cache.pool = pool;
}

void* HybridMemoryPool::Impl::take(ThreadCache& cache, uint32_t size_class, size_t zero_bytes, bool& zeroed,
                                   bool& asked_system) {
  CacheBin& bin = cache.bins[size_class];
  uint32_t count = bin.count.load(std::memory_order_relaxed);
  if (count == 0 && size_class >= kSmallClasses) {
    zeroed = true;
    return large.allocate(class_bytes(size_class), kBlockAlignment, zero_bytes, asked_system);
  }
  if (count == 0) {
    const std::span<void*> room(bin.blocks, capacity_of(size_class) / 2);
    count = static_cast<uint32_t>(small.take(size_class, room, asked_system));
    if (count == 0) return nullptr;
    std::reverse(bin.blocks, bin.blocks + count);  // so that addresses go up
  }
  bin.count.store(count - 1, std::memory_order_relaxed);
  if (size_class >= kSmallClasses) add(cache.cached_bytes, -class_bytes(size_class));
  return bin.blocks[count - 1];
}

void HybridMemoryPool::Impl::give(ThreadCache& cache, uint32_t size_class, void* block) noexcept {
  CacheBin& bin = cache.bins[size_class];
  const uint32_t capacity = bin.capacity.load(std::memory_order_relaxed);
  if (size_class >= kSmallClasses) {
    const size_t bytes = class_bytes(size_class);
    if (cache.cached_bytes.load(std::memory_order_relaxed) + bytes > kMediumBudget) {
      // What fills the budget may be of sizes that nobody wants any more.
      for (uint32_t c = kSmallClasses; c < kClasses; ++c) flush(cache, c, capacity_of(c));
    }
    if (bin.count.load(std::memory_order_relaxed) == capacity) flush(cache, size_class, 1);
    add(cache.cached_bytes, bytes);
  } else if (bin.count.load(std::memory_order_relaxed) == capacity) {
    flush(cache, size_class, capacity / 2);
  }
  const uint32_t count = bin.count.load(std::memory_order_relaxed);
  bin.blocks[count] = block;
  bin.count.store(count + 1, std::memory_order_relaxed);
}

/// Brings the blocks home that were freed first.
void HybridMemoryPool::Impl::flush(ThreadCache& cache, uint32_t size_class, uint32_t blocks) noexcept {
  CacheBin& bin = cache.bins[size_class];
  const uint32_t count = bin.count.load(std::memory_order_relaxed);
  blocks = std::min(blocks, count);
  if (blocks == 0) return;
  const std::span<void* const> going(bin.blocks, blocks);
  size_t known = 0;
  if (size_class < kSmallClasses) {
    known = small.give(size_class, going);
  } else {
    for (void* block : going) known += large.deallocate(block) != 0 ? 1 : 0;
    add(cache.cached_bytes, -(blocks * class_bytes(size_class)));
  }
  std::copy(bin.blocks + blocks, bin.blocks + count, bin.blocks);
  bin.count.store(count - blocks, std::memory_order_relaxed);
  if (known != blocks) log_foreign(blocks - known);
}

void HybridMemoryPool::Impl::flush_all(ThreadCache& cache) noexcept {
  for (uint32_t c = 0; c < kClasses; ++c) flush(cache, c, capacity_of(c));
  cache.trim_epoch = trim_epoch.load(std::memory_order_relaxed);
}

/// Lets the pool's peak see what this thread has allocated, if that is much.
void HybridMemoryPool::Impl::publish(ThreadCache& cache) noexcept {
  const auto now = static_cast<int64_t>(cache.allocated_bytes.load(std::memory_order_relaxed) -
                                        cache.freed_bytes.load(std::memory_order_relaxed));
  const int64_t change = now - cache.published_bytes;
  if (change > -kPublishedBytes && change < kPublishedBytes) return;
  cache.published_bytes = now;
  const int64_t live = published_bytes.fetch_add(change, std::memory_order_relaxed) + change;
  int64_t peak = peak_bytes.load(std::memory_order_relaxed);
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
}

/// A thread ends: its blocks go home, its counters stay.
void HybridMemoryPool::Impl::retire(ThreadCache& cache) noexcept {
  flush_all(cache);
  const std::scoped_lock lock(caches_mutex, shared_mutex);
  std::erase(caches, &cache);
  for (uint32_t c = 0; c < kClasses; ++c) {
    add(shared.bins[c].allocations, cache.bins[c].allocations.load(std::memory_order_relaxed));
    add(shared.bins[c].frees, cache.bins[c].frees.load(std::memory_order_relaxed));
  }
  add(shared.allocated_bytes, cache.allocated_bytes.load(std::memory_order_relaxed));
  add(shared.freed_bytes, cache.freed_bytes.load(std::memory_order_relaxed));
  shared.published_bytes += cache.published_bytes;
  publish(shared);
}

uint32_t PoolThreads::acquire_slot() {
  const std::lock_guard lock(g_mutex);
  const auto slot = std::ranges::find(g_slot_taken, false);
  if (slot == g_slot_taken.end()) return kCacheSlots;
  *slot = true;
  return static_cast<uint32_t>(slot - g_slot_taken.begin());
}

void PoolThreads::release(HybridMemoryPool& pool) noexcept {
  const std::lock_guard lock(g_mutex);
  if (pool.slot_ == kCacheSlots) return;
  // The threads still point to their caches, so these stay, of no use until another pool takes the slot.
  for (ThreadCache* cache : pool.impl_->caches) {
    for (CacheBin& bin : cache->bins) {
      bin.count.store(0, std::memory_order_relaxed);
      bin.capacity.store(0, std::memory_order_relaxed);
      bin.allocations.store(0, std::memory_order_relaxed);
      bin.frees.store(0, std::memory_order_relaxed);
    }
    cache->allocated_bytes.store(0, std::memory_order_relaxed);
    cache->freed_bytes.store(0, std::memory_order_relaxed);
    cache->cached_bytes.store(0, std::memory_order_relaxed);
    cache->published_bytes = 0;
    cache->pool = nullptr;
  }
  g_slot_taken[pool.slot_] = false;
}

ThreadCache* PoolThreads::cache_of(HybridMemoryPool& pool) noexcept {
  ThreadCache*& cache = t_caches[pool.slot_];
  if (cache->pool == &pool) return cache;
  if (pool.slot_ == kCacheSlots || t_ended) return nullptr;
  try {
    static thread_local const ThreadEnd at_end;
    (void)at_end;
    std::unique_ptr<ThreadCache> made;
    if (cache == &g_empty_cache) made = std::make_unique<ThreadCache>();
    ThreadCache* mine = made ? made.get() : cache;
    const std::scoped_lock lock(g_mutex, pool.impl_->caches_mutex);
    pool.impl_->caches.reserve(pool.impl_->caches.size() + 1);
    HybridMemoryPool::Impl::prepare(*mine, &pool);
    pool.impl_->caches.push_back(mine);
    mine->trim_epoch = pool.impl_->trim_epoch.load(std::memory_order_relaxed);
    cache = mine;
    (void)made.release();  // NOLINT(bugprone-unused-return-value): deleted in thread_ends()
    return cache;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void PoolThreads::thread_ends() noexcept {
  t_ended = true;
  const std::lock_guard lock(g_mutex);
  for (ThreadCache*& cache : t_caches) {
    if (cache == &g_empty_cache) continue;
    const std::unique_ptr<ThreadCache> ending(std::exchange(cache, &g_empty_cache));
    if (ending->pool != nullptr) ending->pool->impl_->retire(*ending);
  }
}

}  // namespace bitnet
