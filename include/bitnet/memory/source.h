#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace bitnet {

/// How much of a memory is in use, in bytes; total 0 = unknown.
struct MemoryCapacity {
  int64_t used_bytes = 0;
  int64_t total_bytes = 0;
};

/// Where a pool gets its memory from: the system, a driver, a test. Thread-safe; the pool calls it with a
/// lock held, so it must not call the pool.
class MemorySource {
 public:
  MemorySource() = default;
  MemorySource(const MemorySource&) = delete;
  MemorySource& operator=(const MemorySource&) = delete;
  virtual ~MemorySource() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;
  /// At least `bytes`, aligned to 512 or more; null if there is no memory.
  [[nodiscard]] virtual void* map(size_t bytes) = 0;
  /// A whole mapping, as it came from map().
  virtual void unmap(void* memory, size_t bytes) noexcept = 0;

  /// True if pages become real only when they are touched and then hold zeros, and discard() makes them so
  /// again. The pool maps such memory far ahead and counts only what it has handed out as held.
  [[nodiscard]] virtual bool lazy() const { return false; }
  /// Whole pages of 4 KB inside a mapping: their content is lost, their memory goes back. False if that
  /// failed.
  virtual bool discard(void* /*memory*/, size_t /*bytes*/) noexcept { return false; }
  /// True if this process may read and write through the pointers.
  [[nodiscard]] virtual bool host_accessible() const { return true; }
  /// Fills with zeros (by memset, where the host may).
  virtual void zero(void* memory, size_t bytes);
  /// Of the whole memory behind the source, other users included.
  [[nodiscard]] virtual MemoryCapacity capacity() const = 0;
};

/// Anonymous pages of the system, huge ones but for the first 4 MB of a mapping, where the system allows
/// that.
[[nodiscard]] std::shared_ptr<MemorySource> system_memory_source();

}  // namespace bitnet
