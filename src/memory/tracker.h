#pragma once

#include "bitnet/memory/tracking.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace bitnet::memory {

/// The records of kDetailed and kDebug: one per live block, found by its address, and a ring of events.
/// Behind one lock: these levels are for finding out, not for speed.
class Tracker {
 public:
  explicit Tracker(size_t timeline_events) : capacity_(timeline_events) {}

  /// From now on, with that many bytes live already.
  void start(int64_t live_bytes);
  /// Before the block leaves the pool. Throws bad_alloc, having noted nothing.
  void on_allocate(const void* block, size_t bytes, bool with_stack);
  /// Before the block is handed back. A block without a record only counts.
  void on_free(const void* block, size_t bytes) noexcept;

  [[nodiscard]] int64_t peak_bytes() const;
  [[nodiscard]] uint64_t sequence() const;
  [[nodiscard]] std::vector<TagStats> tags() const;
  /// Live blocks with sequence > since and at least that age.
  [[nodiscard]] LeakReport live(uint64_t since, double min_age_seconds) const;
  [[nodiscard]] std::vector<TimelineEvent> timeline() const;
  [[nodiscard]] std::string timeline_json() const;
  [[nodiscard]] std::string timeline_chrome_trace() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Record {
    size_t bytes;
    uint32_t tag;
    uint64_t sequence;
    Clock::time_point time;
    std::vector<void*> stack;
  };
  struct Event {
    double time_us;
    const void* block;
    int64_t bytes;
    int64_t live_bytes;
    uint32_t tag;
    uint32_t thread;
    bool freed;
  };
  uint32_t intern(std::string_view tag);
  void note(const void* block, size_t bytes, uint32_t tag, bool freed) noexcept;
  [[nodiscard]] std::vector<TimelineEvent> events_in_order() const;

  const size_t capacity_;
  mutable std::mutex mutex_;
  std::unordered_map<const void*, Record> records_;
  std::map<std::string, uint32_t, std::less<>> tag_ids_;
  std::vector<TagStats> tags_;
  std::vector<Event> events_;
  uint64_t event_count_ = 0, sequence_ = 0;
  int64_t live_bytes_ = 0, peak_bytes_ = 0;
  Clock::time_point origin_ = Clock::now();
};

}  // namespace bitnet::memory
