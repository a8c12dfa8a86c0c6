#pragma once

#include "bitnet/core/device.h"
#include "bitnet/core/error.h"
#include "bitnet/memory/source.h"
#include "bitnet/memory/thread_cache.h"
#include "bitnet/memory/tracking.h"

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace bitnet {

struct PoolOptions {
  TrackingLevel tracking = TrackingLevel::kStandard;
  /// Most bytes handed out at once, as the pool rounds them; 0 = what the source gives.
  size_t limit_bytes = 0;
  /// Events that the timeline of kDetailed and kDebug keeps; older ones are dropped and counted.
  size_t timeline_events = 1 << 16;
};

/// A block with proof of ownership: deallocate() and is_live() know a handle that was freed already, also if
/// its memory serves someone else by now.
struct MemoryHandle {
  void* pointer = nullptr;
  size_t bytes = 0;
  size_t alignment = 0;
  uint32_t index = 0, generation = 0;  ///< generation 0: never allocated
  uint64_t pool = 0;
};

/// What a trim or a defragmentation did. Bytes of real memory.
struct ReleaseReport {
  int64_t released_bytes = 0;
  int64_t held_before = 0, held_after = 0;
  double external_fragmentation_before = 0, external_fragmentation_after = 0;
};

template <class T>
class PoolArray;

/// Memory in blocks of any size, kept for reuse.
///   - up to 8 KB: slabs of equal blocks; free ones kept per thread; inlined, no lock, no atomic
///     read-modify-write
///   - up to 1 MB: ranges rounded to a class; some free ones kept per thread
///   - above: ranges, best fit, split and merged with free neighbours
///
/// Ranges lie in regions from a MemorySource; when more memory is held than ever before and over 4 % of it is
/// unused, unused pages go back first. docs/MEMORY.md and docs/adr/0008 describe it.
///
/// Thread-safe. Any thread may free any block. A thread that ends gives its free blocks back. A pool must
/// outlive its blocks; destroying it unmaps everything and logs a warning if blocks were live.
class HybridMemoryPool {
 public:
  explicit HybridMemoryPool(PoolOptions options = {});
  HybridMemoryPool(std::shared_ptr<MemorySource> source, PoolOptions options);
  HybridMemoryPool(const HybridMemoryPool&) = delete;
  HybridMemoryPool& operator=(const HybridMemoryPool&) = delete;
  ~HybridMemoryPool();

  /// The process's pool for the CPU's memory. Never destroyed, so that static objects may hold blocks.
  static HybridMemoryPool& instance() {
    static HybridMemoryPool& pool = instance(Device{});
    return pool;
  }
  /// The same for a device. Throws kUnsupported if no source is registered for it.
  static HybridMemoryPool& instance(Device device);
  /// Makes instance(device) possible. Throws kInvalidArgument if there is a source already.
  static void register_source(Device device, std::shared_ptr<MemorySource> source, PoolOptions options = {});

  /// A block of at least `bytes`, content unspecified. 0 bytes give a block too, different from all others.
  /// `alignment`: a power of two up to 1 GB. Throws kOutOfMemory, or kInvalidArgument for the alignment.
  [[nodiscard]] void* allocate_raw(size_t bytes, size_t alignment = memory::kBlockAlignment);
  /// The same, filled with zeros; pages fresh from the system are zero already and stay untouched.
  [[nodiscard]] void* allocate_zeroed_raw(size_t bytes, size_t alignment = memory::kBlockAlignment);
  /// With the same bytes and alignment as at allocation; null does nothing. Like `operator delete` it trusts
  /// its caller; what it does notice (no such block, freed twice) it logs as an error and leaves alone.
  void deallocate_raw(void* pointer, size_t bytes, size_t alignment = memory::kBlockAlignment) noexcept;

  [[nodiscard]] MemoryHandle allocate(size_t bytes, size_t alignment = memory::kBlockAlignment,
                                      std::string_view tag = {});
  /// Throws kInvalidArgument for a handle that was freed before, or is of another pool, or of none.
  void deallocate(const MemoryHandle& handle);
  [[nodiscard]] bool is_live(const MemoryHandle& handle) const;

  /// `count` elements, content unspecified, freed with the returned object.
  template <class T>
  [[nodiscard]] PoolArray<T> allocate_typed(size_t count);

  /// Gives all unused memory back to the source: this thread's free blocks (other threads' when they next
  /// leave the fast path), empty slabs, unused pages and regions.
  ReleaseReport trim();

  [[nodiscard]] PoolStats stats() const;
  [[nodiscard]] const MemorySource& source() const;
  [[nodiscard]] const PoolOptions& options() const;

  [[nodiscard]] TrackingLevel tracking() const;
  /// Between the levels from kStandard up at any time; blocks from before a raise have no record. Throws
  /// kInvalidArgument from or to kOff, which only the constructor sets.
  void set_tracking(TrackingLevel level);
  /// kDetailed and up; empty below.
  [[nodiscard]] std::vector<TagStats> tag_stats() const;
  /// Blocks that are live now; `since`: only those allocated after allocation_sequence() was that.
  [[nodiscard]] LeakReport live_blocks(uint64_t since = 0) const;
  [[nodiscard]] uint64_t allocation_sequence() const;
  /// Live blocks of at least that age: suspects, not proof.
  [[nodiscard]] LeakReport leak_candidates(double min_age_seconds) const;
  /// The last events of kDetailed and kDebug, oldest first.
  [[nodiscard]] std::vector<TimelineEvent> timeline() const;
  /// {"dropped": n, "events": [{"time_us", "kind", "address", "bytes", "tag", "thread", "live_bytes"}]}
  [[nodiscard]] std::string timeline_json() const;
  /// The same for chrome://tracing and Perfetto: a counter of live bytes and an instant event per allocation.
  [[nodiscard]] std::string timeline_chrome_trace() const;

  /// The n-th allocation from now (1 = the next) throws kOutOfMemory as if memory had run out; 0 = none. For
  /// tests (bitnet/memory/failure.h). Returns how many allocations were still to come of the number set
  /// before.
  uint64_t fail_allocation(uint64_t n);
  /// Called without locks before an allocation fails: frees what it can and returns true if another try is
  /// worth it. Set by MemoryCleaner.
  void set_out_of_memory_hook(std::function<bool(size_t bytes)> hook);

 private:
  friend struct PoolThreads;
  friend class LeakScope;
  struct Impl;
  enum Mode : uint32_t { kCount = 1, kSlow = 2 };

  void* allocate_slow(size_t bytes, size_t alignment, bool zero);
  void deallocate_slow(void* pointer, size_t bytes, size_t alignment) noexcept;
  void* try_allocate(size_t bytes, size_t alignment, bool zero);
  void give_back(void* pointer, size_t bytes, size_t alignment) noexcept;
  void update_mode();
  bool must_fail();
  void require_records(std::string_view what) const;
  [[nodiscard]] static bool is_inlined(size_t bytes, size_t alignment, uint32_t mode) {
    return bytes <= memory::kSmallLimit && alignment <= memory::kBlockAlignment && (mode & kSlow) == 0;
  }

  std::atomic<uint32_t> mode_{kSlow};
  uint32_t slot_ = memory::kCacheSlots;
  std::unique_ptr<Impl> impl_;
};

/// Move-only array in a pool; elements are not constructed.
template <class T>
class PoolArray {
  static_assert(std::is_trivially_copyable_v<T>, "elements are neither constructed nor destroyed");

 public:
  PoolArray() = default;
  PoolArray(HybridMemoryPool& pool, size_t count) : pool_(&pool), size_(count) {
    if (count > std::numeric_limits<size_t>::max() / sizeof(T)) {
      throw Error(ErrorCode::kOutOfMemory, "an array of more bytes than a size_t can count was asked for");
    }
    data_ = static_cast<T*>(pool.allocate_raw(count * sizeof(T), kArrayAlignment));
  }
  PoolArray(PoolArray&& other) noexcept { swap(other); }
  PoolArray& operator=(PoolArray&& other) noexcept {
    PoolArray taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~PoolArray() {
    if (data_ != nullptr) pool_->deallocate_raw(data_, size_ * sizeof(T), kArrayAlignment);
  }

  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] std::span<T> span() const { return {data_, size_}; }
  [[nodiscard]] T& operator[](size_t i) const { return data_[i]; }
  [[nodiscard]] T* begin() const { return data_; }
  [[nodiscard]] T* end() const { return data_ + size_; }

 private:
  static constexpr size_t kArrayAlignment = alignof(T) > memory::kBlockAlignment ? alignof(T)
                                                                                 : memory::kBlockAlignment;
  void swap(PoolArray& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  HybridMemoryPool* pool_ = nullptr;
  T* data_ = nullptr;
  size_t size_ = 0;
};

/// Looks for blocks that were allocated in its lifetime and are still there: exact, not a guess.
///   LeakScope scope(pool);  ...  if (!scope.report().empty()) ...
/// Needs kDetailed or kDebug (throws kInvalidArgument), and the threads of interest to be quiet at the ends.
class LeakScope {
 public:
  explicit LeakScope(const HybridMemoryPool& pool);
  [[nodiscard]] LeakReport report() const { return pool_.live_blocks(since_); }

 private:
  const HybridMemoryPool& pool_;
  uint64_t since_;
};

// The fast path.

inline void* HybridMemoryPool::allocate_raw(size_t bytes, size_t alignment) {
  const uint32_t mode = mode_.load(std::memory_order_relaxed);
  if (is_inlined(bytes, alignment, mode) && std::has_single_bit(alignment)) [[likely]] {
    memory::ThreadCache& cache = *memory::t_caches[slot_];
    memory::CacheBin& bin = cache.bins[memory::size_class(bytes)];
    const uint32_t count = bin.count.load(std::memory_order_relaxed);
    if (count != 0) [[likely]] {
      bin.count.store(count - 1, std::memory_order_relaxed);
      if ((mode & kCount) != 0) {
        memory::add(bin.allocations, 1);
        memory::add(cache.allocated_bytes, bytes);
      }
      return bin.blocks[count - 1];
    }
  }
  return allocate_slow(bytes, alignment, false);
}

inline void HybridMemoryPool::deallocate_raw(void* pointer, size_t bytes, size_t alignment) noexcept {
  const uint32_t mode = mode_.load(std::memory_order_relaxed);
  if (pointer != nullptr && is_inlined(bytes, alignment, mode)) [[likely]] {
    memory::ThreadCache& cache = *memory::t_caches[slot_];
    memory::CacheBin& bin = cache.bins[memory::size_class(bytes)];
    const uint32_t count = bin.count.load(std::memory_order_relaxed);
    if (count < bin.capacity.load(std::memory_order_relaxed)) [[likely]] {
      bin.blocks[count] = pointer;
      bin.count.store(count + 1, std::memory_order_relaxed);
      if ((mode & kCount) != 0) {
        memory::add(bin.frees, 1);
        memory::add(cache.freed_bytes, bytes);
      }
      return;
    }
  }
  deallocate_slow(pointer, bytes, alignment);
}

template <class T>
PoolArray<T> HybridMemoryPool::allocate_typed(size_t count) {
  return PoolArray<T>(*this, count);
}

}  // namespace bitnet
