#include "bitnet/memory/pool.h"

#include "bitnet/core/log.h"
#include "memory/poison.h"
#include "memory/pool_impl.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

using memory::ThreadCache;

constexpr size_t kMostAlignment = size_t{1} << 30;
// More than any address space; keeps sums of sizes from overflowing.
constexpr size_t kMostBytes = size_t{1} << 46;

/// Runs the body with the calling thread's cache, or with the pool's own under its lock.
template <class Body>
auto with_cache(HybridMemoryPool& pool, ThreadCache& shared, std::mutex& shared_mutex, Body&& body) {
  if (ThreadCache* cache = PoolThreads::cache_of(pool)) return body(*cache);
  const std::lock_guard lock(shared_mutex);
  return body(shared);
}

[[noreturn]] void throw_out_of_memory(size_t bytes, std::string_view source, const PoolStats& stats,
                                      size_t limit) {
  throw Error(ErrorCode::kOutOfMemory,
              fmt::format("cannot allocate {} bytes of {} memory: {} held, {} occupied{}", bytes, source,
                          stats.held_bytes, stats.occupied_bytes,
                          limit != 0 ? fmt::format(", limit {}", limit) : std::string()),
              "free what is not needed, raise the pool's limit, or use a machine with more memory");
}

void check_alignment(size_t alignment) {
  if (std::has_single_bit(alignment) && alignment <= kMostAlignment) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("an alignment must be a power of two up to {}, not {}", kMostAlignment, alignment));
}

}  // namespace

HybridMemoryPool::Impl::Impl(std::shared_ptr<MemorySource> memory_source, PoolOptions pool_options)
    : source(std::move(memory_source)),
      options(pool_options),
      large(*source, pool_options.limit_bytes),
      small(large),
      tracker(pool_options.timeline_events),
      level(pool_options.tracking) {
  prepare(shared, nullptr);
  if (pool_options.tracking >= TrackingLevel::kDetailed) tracker.start(0);
}

HybridMemoryPool::HybridMemoryPool(PoolOptions options) : HybridMemoryPool(system_memory_source(), options) {}

HybridMemoryPool::HybridMemoryPool(std::shared_ptr<MemorySource> source, PoolOptions options)
    : impl_(std::make_unique<Impl>(std::move(source), options)) {
  slot_ = PoolThreads::acquire_slot();
  update_mode();
}

HybridMemoryPool::~HybridMemoryPool() {
  PoolStats now = stats();
  if (now.live_blocks > 0) {
    log_message(LogLevel::kWarning,
                fmt::format("a memory pool ends with live blocks: {}", impl_->live(0, 0, now).to_string()));
  }
  PoolThreads::release(*this);
}

/// Under mode_mutex, but for the constructor.
void HybridMemoryPool::update_mode() {
  const TrackingLevel level = impl_->level.load();
  const bool slow = memory::kPoisons || level >= TrackingLevel::kDetailed || impl_->failing.load() != 0;
  mode_.store((level != TrackingLevel::kOff ? kCount : 0u) | (slow ? kSlow : 0u), std::memory_order_relaxed);
}

/// True if this is the allocation that is to fail.
bool HybridMemoryPool::must_fail() {
  uint64_t left = impl_->failing.load(std::memory_order_relaxed);
  while (left != 0 && !impl_->failing.compare_exchange_weak(left, left - 1)) {
  }
  if (left == 1) {
    const std::lock_guard lock(impl_->mode_mutex);
    update_mode();
  }
  return left == 1;
}

/// Null if there is no memory.
void* HybridMemoryPool::try_allocate(size_t bytes, size_t alignment, bool zero) {
  Impl& impl = *impl_;
  const uint32_t size_class = cached_class(bytes, alignment);
  bool asked_system = false, zeroed = false;
  void* block = with_cache(*this, impl.shared, impl.shared_mutex, [&](ThreadCache& cache) {
    if (cache.trim_epoch != impl.trim_epoch.load(std::memory_order_relaxed)) impl.flush_all(cache);
    void* found = nullptr;
    if (size_class != kNoClass) {
      found = impl.take(cache, size_class, zero ? bytes : 0, zeroed, asked_system);
    } else {
      found = impl.large.allocate(bytes, alignment, zero ? bytes : 0, asked_system);
      zeroed = true;
    }
    if (found != nullptr && impl.level.load(std::memory_order_relaxed) != TrackingLevel::kOff) {
      if (size_class != kNoClass) {
        memory::add(cache.bins[size_class].allocations, 1);
      } else {
        impl.large_allocations[static_cast<size_t>(std::bit_width(std::max<size_t>(bytes, 64) - 1))]++;
      }
      memory::add(cache.allocated_bytes, bytes);
      impl.publish(cache);
    }
    return found;
  });
  if (asked_system) impl.system_requests.fetch_add(1, std::memory_order_relaxed);
  if (block == nullptr) return nullptr;
  if (memory::kPoisons && impl.source->host_accessible()) memory::unpoison(block, bytes);
  if (zero && !zeroed) impl.source->zero(block, bytes);
  return block;
}

void* HybridMemoryPool::allocate_slow(size_t bytes, size_t alignment, bool zero) {
  check_alignment(alignment);
  Impl& impl = *impl_;
  const auto fail = [&] {
    throw_out_of_memory(bytes, impl.source->name(), stats(), impl.options.limit_bytes);
  };
  if (must_fail() || bytes > kMostBytes) fail();
  void* block = try_allocate(bytes, alignment, zero);
  if (block == nullptr) {
    trim();
    block = try_allocate(bytes, alignment, zero);
  }
  if (block == nullptr) {
    std::function<bool(size_t)> hook;
    {
      const std::lock_guard lock(impl.hook_mutex);
      hook = impl.out_of_memory_hook;
    }
    if (hook && hook(bytes)) block = try_allocate(bytes, alignment, zero);
  }
  if (block == nullptr) fail();
  const TrackingLevel level = impl.level.load(std::memory_order_relaxed);
  if (level >= TrackingLevel::kDetailed) {
    try {
      impl.tracker.on_allocate(block, bytes, level == TrackingLevel::kDebug);
    } catch (const std::bad_alloc&) {
      give_back(block, bytes, alignment);
      fail();
    }
  }
  return block;
}

void* HybridMemoryPool::allocate_zeroed_raw(size_t bytes, size_t alignment) {
  if (bytes > memory::kSmallLimit) return allocate_slow(bytes, alignment, true);
  void* block = allocate_raw(bytes, alignment);
  impl_->source->zero(block, bytes);
  return block;
}

void HybridMemoryPool::give_back(void* pointer, size_t bytes, size_t alignment) noexcept {
  Impl& impl = *impl_;
  const uint32_t size_class = cached_class(bytes, alignment);
  if (memory::kPoisons && impl.source->host_accessible())
    memory::poison(pointer, size_class == kNoClass ? bytes : memory::class_bytes(size_class));
  with_cache(*this, impl.shared, impl.shared_mutex, [&](ThreadCache& cache) {
    if (cache.trim_epoch != impl.trim_epoch.load(std::memory_order_relaxed)) impl.flush_all(cache);
    if (size_class != kNoClass) {
      impl.give(cache, size_class, pointer);
    } else if (impl.large.deallocate(pointer) == 0) {
      log_message(
          LogLevel::kError,
          fmt::format("{} bytes at {} were freed twice, or are no block of this memory pool; they were left "
                      "alone",
                      bytes, pointer));
      return;
    }
    if (impl.level.load(std::memory_order_relaxed) == TrackingLevel::kOff) return;
    if (size_class != kNoClass) {
      memory::add(cache.bins[size_class].frees, 1);
    } else {
      impl.large_frees.fetch_add(1, std::memory_order_relaxed);
    }
    memory::add(cache.freed_bytes, bytes);
    impl.publish(cache);
  });
}

void HybridMemoryPool::deallocate_slow(void* pointer, size_t bytes, size_t alignment) noexcept {
  if (pointer == nullptr) return;
  // The record goes first: once the block is back, its address may belong to another allocation.
  if (impl_->level.load(std::memory_order_relaxed) >= TrackingLevel::kDetailed)
    impl_->tracker.on_free(pointer, bytes);
  give_back(pointer, bytes, alignment);
}

MemoryHandle HybridMemoryPool::allocate(size_t bytes, size_t alignment, std::string_view tag) {
  check_alignment(alignment);
  const std::string_view outer = MemoryTag::current();
  const MemoryTag scope(tag.empty() ? outer : tag);
  MemoryHandle handle{allocate_raw(bytes, alignment), bytes, alignment};
  try {
    impl_->handles.add(handle);
  } catch (const std::bad_alloc&) {
    deallocate_raw(handle.pointer, bytes, alignment);
    throw_out_of_memory(bytes, impl_->source->name(), stats(), impl_->options.limit_bytes);
  }
  return handle;
}

void HybridMemoryPool::deallocate(const MemoryHandle& handle) {
  const MemoryHandle owned = impl_->handles.remove(handle);
  deallocate_raw(owned.pointer, owned.bytes, owned.alignment);
}

bool HybridMemoryPool::is_live(const MemoryHandle& handle) const {
  return impl_->handles.contains(handle);
}

ReleaseReport HybridMemoryPool::trim() {
  Impl& impl = *impl_;
  const PoolStats before = stats();
  impl.trim_epoch.fetch_add(1, std::memory_order_relaxed);
  with_cache(*this, impl.shared, impl.shared_mutex, [&](ThreadCache& cache) { impl.flush_all(cache); });
  {
    const std::lock_guard lock(impl.shared_mutex);
    impl.flush_all(impl.shared);
  }
  impl.small.release_empty();
  const int64_t released = impl.large.release();
  const PoolStats after = stats();
  return {released, before.held_bytes, after.held_bytes, before.external_fragmentation(),
          after.external_fragmentation()};
}

const MemorySource& HybridMemoryPool::source() const {
  return *impl_->source;
}
const PoolOptions& HybridMemoryPool::options() const {
  return impl_->options;
}

uint64_t HybridMemoryPool::fail_allocation(uint64_t n) {
  const std::lock_guard lock(impl_->mode_mutex);
  const uint64_t left = impl_->failing.exchange(n);
  update_mode();
  return left;
}

void HybridMemoryPool::set_out_of_memory_hook(std::function<bool(size_t bytes)> hook) {
  const std::lock_guard lock(impl_->hook_mutex);
  impl_->out_of_memory_hook = std::move(hook);
}

}  // namespace bitnet
