#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

namespace bitnet {

/// How often an operation ran, and how often it had to copy its input (to make it contiguous, of another type
/// or on another device) instead of using the bytes where they lie. An operation's result is not a copy.
struct CopyCounts {
  uint64_t operations = 0;
  uint64_t copies = 0;
  uint64_t copied_bytes = 0;

  [[nodiscard]] uint64_t zero_copy() const { return operations - copies; }
  /// Share of operations without a copy, in percent; 100 where nothing ran.
  [[nodiscard]] double percentage() const {
    return operations == 0 ? 100.0
                           : 100.0 * static_cast<double>(zero_copy()) / static_cast<double>(operations);
  }
};

/// The counter of one operation, for the whole process: a static object where the operation is. Thread-safe.
class CopyCounter {
 public:
  /// `name` must live as long as the process.
  explicit CopyCounter(std::string_view name);
  CopyCounter(const CopyCounter&) = delete;
  CopyCounter& operator=(const CopyCounter&) = delete;
  ~CopyCounter() = default;

  [[nodiscard]] std::string_view name() const { return name_; }
  /// One operation that copied so many bytes; 0 for none.
  void add(int64_t copied_bytes) {
    operations_.fetch_add(1, std::memory_order_relaxed);
    if (copied_bytes == 0) return;
    copies_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(static_cast<uint64_t>(copied_bytes), std::memory_order_relaxed);
  }
  [[nodiscard]] CopyCounts counts() const;

 private:
  friend class CopyTracker;
  std::string_view name_;
  CopyCounter* next_ = nullptr;
  std::atomic<uint64_t> operations_{0}, copies_{0}, bytes_{0};
};

/// All counters of the process.
class CopyTracker {
 public:
  struct Entry {
    std::string_view operation;
    CopyCounts counts;
  };
  [[nodiscard]] static CopyCounts totals();
  /// Operations that ran, sorted by name; counters of one name are added up.
  [[nodiscard]] static std::vector<Entry> per_operation();
  static void reset();
};

}  // namespace bitnet
