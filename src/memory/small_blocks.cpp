#include "memory/small_blocks.h"

#include <bit>
#include <new>

namespace bitnet::memory {

void SmallBlocks::link(SizeClass& of, Slab* slab) {
  slab->previous = nullptr;
  slab->next = of.available;
  if (slab->next != nullptr) slab->next->previous = slab;
  of.available = slab;
}

void SmallBlocks::unlink(SizeClass& of, Slab* slab) {
  (slab->previous != nullptr ? slab->previous->next : of.available) = slab->next;
  if (slab->next != nullptr) slab->next->previous = slab->previous;
}

SmallBlocks::Slab* SmallBlocks::add_slab(uint32_t size_class, bool& asked_system) {
  SizeClass& of = classes_[size_class];
  // Aligned to its size, so that a block's address tells its slab, and power-of-two blocks are aligned to
  // theirs.
  void* begin = large_.allocate(kSlabBytes, kSlabBytes, 0, asked_system);
  if (begin == nullptr) return nullptr;
  try {
    auto slab = std::make_unique<Slab>();
    slab->begin = static_cast<std::byte*>(begin);
    slab->free_blocks = static_cast<uint32_t>(kSlabBytes / class_bytes(size_class));
    for (uint32_t i = 0; i < slab->free_blocks; ++i) slab->free[i / 64] |= uint64_t{1} << (i % 64);
    Slab* added = slab.get();
    of.slabs.emplace(reinterpret_cast<uintptr_t>(begin) / kSlabBytes, std::move(slab));
    link(of, added);
    return added;
  } catch (const std::bad_alloc&) {
    large_.deallocate(begin);
    return nullptr;
  }
}

void SmallBlocks::remove_slab(SizeClass& of, Slab* slab) noexcept {
  unlink(of, slab);
  std::byte* begin = slab->begin;
  of.slabs.erase(reinterpret_cast<uintptr_t>(begin) / kSlabBytes);
  large_.deallocate(begin);
}

size_t SmallBlocks::take(uint32_t size_class, std::span<void*> blocks, bool& asked_system) {
  SizeClass& of = classes_[size_class];
  const size_t bytes = class_bytes(size_class);
  const std::lock_guard lock(of.mutex);
  size_t taken = 0;
  while (taken < blocks.size()) {
    Slab* slab = of.available;
    // Fresh memory only for who would leave empty-handed.
    if (slab == nullptr && taken == 0) slab = add_slab(size_class, asked_system);
    if (slab == nullptr) break;
    for (size_t word = 0; word < slab->free.size() && taken < blocks.size(); ++word) {
      for (uint64_t& bits = slab->free[word]; bits != 0 && taken < blocks.size(); bits &= bits - 1) {
        const size_t index = word * 64 + static_cast<size_t>(std::countr_zero(bits));
        blocks[taken++] = slab->begin + index * bytes;
        --slab->free_blocks;
      }
    }
    if (slab->free_blocks == 0) unlink(of, slab);
  }
  of.used_blocks += static_cast<int64_t>(taken);
  return taken;
}

size_t SmallBlocks::give(uint32_t size_class, std::span<void* const> blocks) noexcept {
  SizeClass& of = classes_[size_class];
  const size_t bytes = class_bytes(size_class);
  const size_t blocks_per_slab = kSlabBytes / bytes;
  const std::lock_guard lock(of.mutex);
  size_t given = 0;
  for (void* block : blocks) {
    const auto found = of.slabs.find(reinterpret_cast<uintptr_t>(block) / kSlabBytes);
    if (found == of.slabs.end()) continue;
    Slab* slab = found->second.get();
    const auto offset = static_cast<size_t>(static_cast<std::byte*>(block) - slab->begin);
    const size_t index = offset / bytes;
    const uint64_t bit = uint64_t{1} << (index % 64);
    if (offset % bytes != 0 || index >= blocks_per_slab || (slab->free[index / 64] & bit) != 0) continue;
    slab->free[index / 64] |= bit;
    if (slab->free_blocks++ == 0) link(of, slab);
    ++given;
    const bool only = of.available == slab && slab->next == nullptr;
    if (slab->free_blocks == blocks_per_slab && !only) remove_slab(of, slab);
  }
  of.used_blocks -= static_cast<int64_t>(given);
  return given;
}

void SmallBlocks::release_empty() noexcept {
  for (uint32_t size_class = 0; size_class < kSmallClasses; ++size_class) {
    SizeClass& of = classes_[size_class];
    const size_t blocks_per_slab = kSlabBytes / class_bytes(size_class);
    const std::lock_guard lock(of.mutex);
    for (Slab* slab = of.available; slab != nullptr;) {
      Slab* next = slab->next;
      if (slab->free_blocks == blocks_per_slab) remove_slab(of, slab);
      slab = next;
    }
  }
}

int64_t SmallBlocks::unused_bytes() const {
  int64_t unused = 0;
  for (uint32_t size_class = 0; size_class < kSmallClasses; ++size_class) {
    const SizeClass& of = classes_[size_class];
    const std::lock_guard lock(of.mutex);
    unused += static_cast<int64_t>(of.slabs.size() * kSlabBytes) -
              of.used_blocks * static_cast<int64_t>(class_bytes(size_class));
  }
  return unused;
}

}  // namespace bitnet::memory
