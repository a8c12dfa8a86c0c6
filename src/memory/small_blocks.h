#pragma once

#include "bitnet/memory/size_classes.h"
#include "memory/large_blocks.h"

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>

namespace bitnet::memory {

/// Slabs of equal blocks, one lock per class: where thread caches come for blocks and bring them back. A slab
/// without used blocks goes back to the ranges, if its class has another with free ones.
class SmallBlocks {
 public:
  explicit SmallBlocks(LargeBlocks& large) : large_(large) {}

  /// Fills `blocks` from the front and returns how many; 0 if there is no memory.
  [[nodiscard]] size_t take(uint32_t size_class, std::span<void*> blocks, bool& asked_system);
  /// Returns how many were blocks of the class in use; others are left alone.
  size_t give(uint32_t size_class, std::span<void* const> blocks) noexcept;
  /// Empty slabs go back to the ranges.
  void release_empty() noexcept;
  /// Bytes of slabs that are in no block that was taken.
  [[nodiscard]] int64_t unused_bytes() const;

 private:
  static constexpr size_t kSlabBytes = size_t{64} << 10;
  struct Slab {
    std::byte* begin = nullptr;
    uint32_t free_blocks = 0;
    Slab *previous = nullptr, *next = nullptr;  ///< in the list of slabs with free blocks
    std::array<uint64_t, kSlabBytes / kBlockAlignment / 64> free{};
  };
  struct SizeClass {
    mutable std::mutex mutex;
    std::unordered_map<uintptr_t, std::unique_ptr<Slab>> slabs;  ///< by address / kSlabBytes
    Slab* available = nullptr;                                   ///< first slab with free blocks
    int64_t used_blocks = 0;
  };

  Slab* add_slab(uint32_t size_class, bool& asked_system);
  void remove_slab(SizeClass& of, Slab* slab) noexcept;
  static void link(SizeClass& of, Slab* slab);
  static void unlink(SizeClass& of, Slab* slab);

  LargeBlocks& large_;
  std::array<SizeClass, kSmallClasses> classes_;
};

}  // namespace bitnet::memory
