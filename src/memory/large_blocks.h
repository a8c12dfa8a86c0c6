#pragma once

#include "bitnet/memory/source.h"
#include "memory/page_bits.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

namespace bitnet::memory {

inline constexpr size_t kGranule = 512;  ///< sizes and addresses of ranges are multiples of it
inline constexpr size_t kPage = 4096;
inline constexpr size_t kHugePage = size_t{2} << 20;

/// Bytes, under one lock.
struct LargeStats {
  int64_t reserved = 0;   ///< mapped from the source
  int64_t held = 0;       ///< pages that were handed out since they were mapped or discarded
  int64_t peak_held = 0;  ///< highest held
  int64_t used = 0;       ///< blocks handed out
  int64_t largest_free = 0;
};

/// Ranges of memory: best fit, split on allocation, merged with free neighbours when freed. All bookkeeping
/// lies beside the memory. Thread-safe, behind one lock.
class LargeBlocks {
 public:
  LargeBlocks(MemorySource& source, size_t limit_bytes);
  LargeBlocks(const LargeBlocks&) = delete;
  LargeBlocks& operator=(const LargeBlocks&) = delete;
  ~LargeBlocks();

  /// Null if limit, source or bookkeeping memory does not allow it. `zero_bytes` from the block's begin are
  /// made zero, where pages are not so already. `asked_system` is set if memory was mapped or fresh pages
  /// were taken.
  [[nodiscard]] void* allocate(size_t bytes, size_t alignment, size_t zero_bytes, bool& asked_system);
  /// The size that allocate() handed out, or 0 if there is no such block.
  size_t deallocate(void* pointer) noexcept;
  /// Gives unused pages and unused regions back; returns the bytes of real memory.
  int64_t release() noexcept;
  [[nodiscard]] LargeStats stats() const;

 private:
  struct Region {
    std::byte* begin = nullptr;
    size_t size = 0;
    PageBits dirty;  ///< of a lazy source: pages that may hold something
  };
  struct Block {
    std::byte* begin = nullptr;
    size_t size = 0;
    Region* region = nullptr;
    Block *before = nullptr, *after = nullptr;           ///< neighbours in the region
    Block *bin_previous = nullptr, *bin_next = nullptr;  ///< free ones of about the same size
    bool free = false;
  };
  static constexpr uint32_t kBins = 640;

  [[nodiscard]] static uint32_t bin_of(size_t size);
  [[nodiscard]] static size_t padding(const Block& block, size_t alignment);
  [[nodiscard]] size_t fresh_pages(const Block& block, size_t size, size_t alignment) const;
  [[nodiscard]] Block* find(size_t size, size_t alignment) const;
  Block* map_region(size_t size, size_t alignment);
  void* try_map(size_t& bytes);
  Block* split(Block* block, size_t offset);
  void link(Block* block);
  void unlink(Block* block);
  void absorb_next(Block* block);
  using Runs = std::vector<std::span<std::byte>>;
  void take(Block* block, bool& asked_system);
  [[nodiscard]] Runs dirty_runs(const Block& block, size_t bytes) const;
  void discard_unused(int64_t keep) noexcept;
  void unmap_unused() noexcept;

  MemorySource& source_;
  const bool lazy_;
  const size_t limit_;
  mutable std::mutex mutex_;
  std::list<Region> regions_;
  std::unordered_map<void*, Block> blocks_;
  std::array<Block*, kBins> bins_{};
  std::array<uint64_t, kBins / 64> bin_bits_{};
  LargeStats stats_;
  int64_t high_water_ = 0;
};

}  // namespace bitnet::memory
