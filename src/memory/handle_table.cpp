#include "memory/handle_table.h"

#include "bitnet/core/error.h"

#include <atomic>

#include <fmt/format.h>

namespace bitnet::memory {

uint64_t HandleTable::next_id() {
  static std::atomic<uint64_t> next{1};
  return next++;
}

void HandleTable::add(MemoryHandle& handle) {
  const std::lock_guard lock(mutex_);
  if (unused_.empty()) {
    entries_.emplace_back();
    unused_.reserve(entries_.capacity());  // so that remove() cannot fail
    unused_.push_back(static_cast<uint32_t>(entries_.size() - 1));
  }
  handle.index = unused_.back();
  unused_.pop_back();
  Entry& entry = entries_[handle.index];
  handle.generation = entry.handle.generation + 1 != 0 ? entry.handle.generation + 1 : 1;
  handle.pool = id_;
  entry = {handle, true};
}

bool HandleTable::is_live(const MemoryHandle& handle) const {
  return handle.pool == id_ && handle.generation != 0 && handle.index < entries_.size() &&
         entries_[handle.index].live && entries_[handle.index].handle.generation == handle.generation;
}

MemoryHandle HandleTable::remove(const MemoryHandle& handle) {
  const std::lock_guard lock(mutex_);
  if (!is_live(handle)) {
    const std::string what = handle.generation == 0 ? "a handle that was never allocated"
                             : handle.pool != id_
                                 ? "a handle of another pool"
                                 : fmt::format("a stale handle (block {} of {} bytes, generation {})",
                                               handle.index, handle.bytes, handle.generation);
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("cannot free {}: {}", what,
                            handle.generation != 0 && handle.pool == id_ ? "it was freed before"
                                                                         : "this pool has no such block"),
                "free each handle once, in the pool that allocated it");
  }
  entries_[handle.index].live = false;
  unused_.push_back(handle.index);
  return entries_[handle.index].handle;
}

bool HandleTable::contains(const MemoryHandle& handle) const {
  const std::lock_guard lock(mutex_);
  return is_live(handle);
}

}  // namespace bitnet::memory
