#pragma once

#include <array>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// What a pool writes down. benchmarks/memory measures what each level costs (docs/MEMORY.md).
enum class TrackingLevel : uint8_t {
  kOff,       ///< only what the pool knows anyway: reserved, held and occupied bytes
  kStandard,  ///< counters per thread: live and peak bytes, counts, sizes, success rate
  kDetailed,  ///< a record per live block: tags, ages, leaks, exact peak, timeline
  kDebug,     ///< and the stack of each allocation
};
[[nodiscard]] std::string_view to_string(TrackingLevel level);

/// A pool at one moment; exact when no other thread is inside the pool. Bytes.
struct PoolStats {
  int64_t reserved_bytes = 0;  ///< address space mapped from the source
  int64_t held_bytes = 0;  ///< real memory: mapped, and for lazy sources handed out and not given back since
  int64_t peak_held_bytes = 0;     ///< exact
  int64_t occupied_bytes = 0;      ///< blocks that users have, as large as the pool made them
  int64_t cached_bytes = 0;        ///< free blocks in thread caches
  int64_t largest_free_bytes = 0;  ///< in one range; fresh address space included

  // kStandard and up.
  int64_t live_bytes = 0;       ///< as asked for
  int64_t peak_live_bytes = 0;  ///< exact from kDetailed; below, each thread may have had up to 4 MB more
  int64_t live_blocks = 0;
  uint64_t allocations = 0, frees = 0;
  uint64_t system_requests = 0;  ///< allocations for which memory was mapped, or fresh pages taken
  std::array<uint64_t, 48> size_histogram{};  ///< [i]: allocations of 2^(i-1) < bytes <= 2^i; [6]: up to 64

  /// Share of allocations that the pool served from memory that it held; 1 without any.
  [[nodiscard]] double success_rate() const;
  /// Share of occupied bytes that nobody asked for: 1 - live / occupied.
  [[nodiscard]] double internal_fragmentation() const;
  /// Share of held bytes that no user occupies: 1 - occupied / held.
  [[nodiscard]] double external_fragmentation() const;
};

struct TagStats {
  std::string tag;
  int64_t live_bytes = 0, peak_bytes = 0, live_blocks = 0;
  uint64_t allocations = 0;
};

/// A live block.
struct BlockRecord {
  const void* address = nullptr;
  int64_t bytes = 0;
  std::string tag;
  double age_seconds = 0;
  uint64_t sequence = 0;           ///< number of its allocation among the tracked ones
  std::vector<std::string> stack;  ///< kDebug: innermost first
};

/// An allocation, or the end of one.
struct TimelineEvent {
  double time_us = 0;  ///< since the pool was made
  const void* address = nullptr;
  int64_t bytes = 0;
  int64_t live_bytes = 0;  ///< after it
  std::string tag;
  uint32_t thread = 0;  ///< numbered as they appear
  bool freed = false;
};

struct LeakReport {
  int64_t bytes = 0, blocks = 0;
  /// Largest first; at most 1000. Empty below kDetailed, where only the numbers are known.
  std::vector<BlockRecord> records;
  [[nodiscard]] bool empty() const { return blocks == 0; }
  [[nodiscard]] std::string to_string() const;
};

/// Gives tracked allocations of this thread a tag, as long as it lives; innermost wins. The text must outlive
/// it.
class MemoryTag {
 public:
  explicit MemoryTag(std::string_view tag);
  MemoryTag(const MemoryTag&) = delete;
  MemoryTag& operator=(const MemoryTag&) = delete;
  ~MemoryTag();
  [[nodiscard]] static std::string_view current();

 private:
  std::string_view outer_;
};

}  // namespace bitnet
