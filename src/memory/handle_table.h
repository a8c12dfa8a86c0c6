#pragma once

#include "bitnet/memory/pool.h"

#include <mutex>
#include <vector>

namespace bitnet::memory {

/// Which handles of a pool are live. An entry is used again with the next generation.
class HandleTable {
 public:
  /// Fills index, generation and pool. Throws bad_alloc.
  void add(MemoryHandle& handle);
  /// The live handle with that index and generation, taken out. Throws kInvalidArgument.
  MemoryHandle remove(const MemoryHandle& handle);
  [[nodiscard]] bool contains(const MemoryHandle& handle) const;

 private:
  struct Entry {
    MemoryHandle handle;
    bool live = false;
  };
  [[nodiscard]] bool is_live(const MemoryHandle& handle) const;

  const uint64_t id_ = next_id();
  static uint64_t next_id();
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> unused_;
};

}  // namespace bitnet::memory
