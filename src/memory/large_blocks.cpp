#include "memory/large_blocks.h"

#include "memory/poison.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

namespace bitnet::memory {
namespace {

// Of lazy sources address space costs nothing; of others every mapped byte counts.
constexpr size_t kLazyRegion = size_t{256} << 20;
constexpr size_t kEagerRegion = size_t{32} << 20;
// From here on an eager source is asked for what is needed, not for a whole region.
constexpr size_t kOwnRegion = size_t{8} << 20;
// Of used bytes: more unused memory than that goes back before the pool holds more than ever.
constexpr int64_t kUnusedShare = 25;
constexpr int kBinsToLookAt = 8;

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

// A lazy source maps more than there is, and the system ends who uses it all; so what there is, is the limit.
LargeBlocks::LargeBlocks(MemorySource& source, size_t limit_bytes)
    : source_(source),
      lazy_(source.lazy()),
      limit_(limit_bytes == 0 && lazy_ ? static_cast<size_t>(source.capacity().total_bytes) : limit_bytes) {}

LargeBlocks::~LargeBlocks() {
  for (const Region& region : regions_) source_.unmap(region.begin, region.size);
}

/// Sizes below 16 granules exactly, then 16 bins for each doubling; a bin holds sizes from its own up.
uint32_t LargeBlocks::bin_of(size_t size) {
  const size_t granules = size / kGranule;
  if (granules < 16) return static_cast<uint32_t>(granules);
  const auto width = static_cast<uint32_t>(std::bit_width(granules));
  return std::min(kBins - 1, 16 * (width - 4) + static_cast<uint32_t>((granules >> (width - 5)) & 15));
}

/// Bytes from the block's begin to the first aligned address.
size_t LargeBlocks::padding(const Block& block, size_t alignment) {
  return static_cast<size_t>(-reinterpret_cast<uintptr_t>(block.begin)) & (alignment - 1);
}

/// Pages that an allocation at the block's first aligned address would touch for the first time.
size_t LargeBlocks::fresh_pages(const Block& block, size_t size, size_t alignment) const {
  if (!lazy_) return 0;
  const auto offset = static_cast<size_t>(block.begin - block.region->begin) + padding(block, alignment);
  return block.region->dirty.missing(offset / kPage, round_up(offset + size, kPage) / kPage);
}

/// Best fit: the first bin with a block that has room is looked at, and of its blocks the smallest taken. But
/// what is held already comes first: where fresh pages would be taken, a few more bins are looked at for a
/// block that takes fewer.
LargeBlocks::Block* LargeBlocks::find(size_t size, size_t alignment) const {
  Block* best = nullptr;
  size_t best_fresh = 0;
  int bins_to_look_at = kBinsToLookAt;
  for (uint32_t bin = bin_of(size); bin < kBins && bins_to_look_at > 0; ++bin) {
    const uint64_t later = bin_bits_[bin / 64] >> (bin % 64);
    if (later == 0) {
      bin |= 63;  // nothing in this word
      continue;
    }
    bin += static_cast<uint32_t>(std::countr_zero(later));
    for (Block* block = bins_[bin]; block != nullptr; block = block->bin_next) {
      if (block->size < size || block->size - size < padding(*block, alignment)) continue;
      if (best != nullptr && best_fresh == 0 && block->size >= best->size) continue;
      const size_t fresh = fresh_pages(*block, size, alignment);
      if (best == nullptr || fresh < best_fresh || (fresh == best_fresh && block->size < best->size)) {
        best = block;
        best_fresh = fresh;
      }
      if (best_fresh == 0 && best->size == size) return best;
    }
    if (best == nullptr) continue;
    if (best_fresh == 0) break;
    --bins_to_look_at;
  }
  return best;
}

/// Less than a whole region if the source has no more; `bytes` becomes what there is.
void* LargeBlocks::try_map(size_t& bytes) {
  const size_t whole = lazy_ ? kLazyRegion : kEagerRegion;
  const size_t least = round_up(bytes, kHugePage);
  const size_t usual = least > (lazy_ ? whole : kOwnRegion) ? least : whole;
  for (const size_t attempt : {usual, least, bytes}) {
    bytes = attempt;
    if (void* memory = source_.map(attempt)) return memory;
  }
  return nullptr;
}

LargeBlocks::Block* LargeBlocks::map_region(size_t size, size_t alignment) {
  // A mapping is aligned to its first granule at least; beyond huge pages nobody promises anything.
  size_t bytes = round_up(size + (alignment > kGranule ? alignment : 0), kPage);
  if (!lazy_ && stats_.held + static_cast<int64_t>(bytes) > high_water_ &&
      stats_.held - stats_.used > stats_.used / kUnusedShare) {
    unmap_unused();
  }
  auto* memory = static_cast<std::byte*>(try_map(bytes));
  if (memory == nullptr) return nullptr;
  try {
    std::list<Region> region;
    region.push_back({memory, bytes, lazy_ ? PageBits(bytes / kPage) : PageBits()});
    Block& block = blocks_[memory];
    block = {memory, bytes, &region.back()};
    regions_.splice(regions_.end(), region);
    link(&block);
    stats_.reserved += static_cast<int64_t>(bytes);
    if (!lazy_) {
      stats_.held += static_cast<int64_t>(bytes);
      high_water_ = std::max(high_water_, stats_.held);
    }
    return &block;
  } catch (const std::bad_alloc&) {
    source_.unmap(memory, bytes);
    return nullptr;
  }
}

void LargeBlocks::link(Block* block) {
  const uint32_t bin = bin_of(block->size);
  block->free = true;
  block->bin_previous = nullptr;
  block->bin_next = std::exchange(bins_[bin], block);
  if (block->bin_next != nullptr) block->bin_next->bin_previous = block;
  bin_bits_[bin / 64] |= uint64_t{1} << (bin % 64);
}

void LargeBlocks::unlink(Block* block) {
  const uint32_t bin = bin_of(block->size);
  block->free = false;
  (block->bin_previous != nullptr ? block->bin_previous->bin_next : bins_[bin]) = block->bin_next;
  if (block->bin_next != nullptr) block->bin_next->bin_previous = block->bin_previous;
  if (bins_[bin] == nullptr) bin_bits_[bin / 64] &= ~(uint64_t{1} << (bin % 64));
}

/// Splits a free block; both parts are free and the second is returned. Throws bad_alloc, having done
/// nothing.
LargeBlocks::Block* LargeBlocks::split(Block* block, size_t offset) {
  Block& rest = blocks_[block->begin + offset];
  unlink(block);
  rest = {block->begin + offset, block->size - offset, block->region, block, block->after};
  if (rest.after != nullptr) rest.after->before = &rest;
  block->after = &rest;
  block->size = offset;
  link(block);
  link(&rest);
  return &rest;
}

/// The parts of the block's first `bytes` that may hold something.
LargeBlocks::Runs LargeBlocks::dirty_runs(const Block& block, size_t bytes) const {
  if (bytes == 0) return {};
  if (!lazy_) return {{block.begin, bytes}};
  Runs runs;
  std::byte* origin = block.region->begin;
  const auto offset = static_cast<size_t>(block.begin - origin);
  const size_t last = round_up(offset + bytes, kPage) / kPage;
  block.region->dirty.for_each_run(offset / kPage, last, [&](size_t first, size_t end) {
    std::byte* from = origin + std::max(first * kPage, offset);
    runs.emplace_back(from, origin + std::min(end * kPage, offset + bytes));
  });
  return runs;
}

/// Takes a block out of its bin and counts its pages.
void LargeBlocks::take(Block* block, bool& asked_system) {
  unlink(block);
  stats_.used += static_cast<int64_t>(block->size);
  if (lazy_) {
    const auto offset = static_cast<size_t>(block->begin - block->region->begin);
    const size_t fresh =
        block->region->dirty.set(offset / kPage, round_up(offset + block->size, kPage) / kPage);
    stats_.held += static_cast<int64_t>(fresh * kPage);
    asked_system |= fresh != 0;
    if (stats_.held > high_water_) {
      if (stats_.held - stats_.used > stats_.used / kUnusedShare)
        discard_unused(stats_.used / kUnusedShare / 2);
      high_water_ = std::max(high_water_, stats_.held);
    }
  }
  stats_.peak_held = std::max(stats_.peak_held, stats_.held);
}

void* LargeBlocks::allocate(size_t bytes, size_t alignment, size_t zero_bytes, bool& asked_system) try {
  const size_t size = round_up(std::max<size_t>(bytes, 1), kGranule);
  Runs to_zero;
  std::unique_lock lock(mutex_);
  if (limit_ != 0 && (size > limit_ || static_cast<size_t>(stats_.used) > limit_ - size)) return nullptr;
  Block* block = find(size, alignment);
  if (block == nullptr) {
    block = map_region(size, alignment);
    if (block == nullptr) return nullptr;
    asked_system = true;
  }
  if (const size_t offset = padding(*block, alignment); offset != 0) block = split(block, offset);
  if (block->size > size) split(block, size);
  to_zero = dirty_runs(*block, zero_bytes);
  take(block, asked_system);
  void* memory = block->begin;
  lock.unlock();
  for (const std::span<std::byte> run : to_zero) {
    if (source_.host_accessible()) unpoison(run.data(), run.size());
    source_.zero(run.data(), run.size());
  }
  return memory;
} catch (const std::bad_alloc&) {  // bookkeeping; a block that was split stays in two free parts until its
                                   // next use
  return nullptr;
}

/// Makes one of two free neighbours that are in no bin.
void LargeBlocks::absorb_next(Block* block) {
  Block* next = block->after;
  block->size += next->size;
  block->after = next->after;
  if (block->after != nullptr) block->after->before = block;
  blocks_.erase(next->begin);
}

size_t LargeBlocks::deallocate(void* pointer) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(pointer);
  if (found == blocks_.end() || found->second.free) return 0;
  Block* block = &found->second;
  const size_t size = block->size;
  stats_.used -= static_cast<int64_t>(size);
  if (block->after != nullptr && block->after->free) {
    unlink(block->after);
    absorb_next(block);
  }
  if (block->before != nullptr && block->before->free) {
    block = block->before;
    unlink(block);
    absorb_next(block);
  }
  link(block);
  return size;
}

/// From the largest free blocks down, until no more than `keep` bytes are held and unused.
void LargeBlocks::discard_unused(int64_t keep) noexcept {
  for (uint32_t bin = kBins; bin-- > 0;) {
    for (const Block* block = bins_[bin]; block != nullptr; block = block->bin_next) {
      if (stats_.held - stats_.used <= keep) return;
      std::byte* origin = block->region->begin;
      const auto offset = static_cast<size_t>(block->begin - origin);
      PageBits& dirty = block->region->dirty;
      const size_t last_page = (offset + block->size) / kPage;
      dirty.for_each_run(round_up(offset, kPage) / kPage, last_page, [&](size_t first, size_t last) {
        if (!source_.discard(origin + first * kPage, (last - first) * kPage)) return;
        dirty.clear(first, last);
        stats_.held -= static_cast<int64_t>((last - first) * kPage);
      });
    }
  }
}

void LargeBlocks::unmap_unused() noexcept {
  for (auto region = regions_.begin(); region != regions_.end();) {
    Block& first = blocks_.find(region->begin)->second;
    if (!first.free || first.size != region->size) {
      ++region;
      continue;
    }
    unlink(&first);
    blocks_.erase(region->begin);
    source_.unmap(region->begin, region->size);
    stats_.reserved -= static_cast<int64_t>(region->size);
    if (!lazy_) stats_.held -= static_cast<int64_t>(region->size);
    region = regions_.erase(region);
  }
}

int64_t LargeBlocks::release() noexcept {
  const std::lock_guard lock(mutex_);
  const int64_t before = stats_.held;
  if (lazy_) discard_unused(0);  // first, so that a region's pages are counted before the region is gone
  unmap_unused();
  high_water_ = stats_.held;
  return before - stats_.held;
}

LargeStats LargeBlocks::stats() const {
  const std::lock_guard lock(mutex_);
  LargeStats stats = stats_;
  for (uint32_t bin = kBins; bin-- > 0 && stats.largest_free == 0;) {
    for (const Block* block = bins_[bin]; block != nullptr; block = block->bin_next) {
      stats.largest_free = std::max(stats.largest_free, static_cast<int64_t>(block->size));
    }
  }
  return stats;
}

}  // namespace bitnet::memory
