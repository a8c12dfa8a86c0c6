#include "memory/tracker.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <utility>

#include <execinfo.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace bitnet {
namespace {

thread_local std::string_view t_tag;

}  // namespace

std::string_view to_string(TrackingLevel level) {
  constexpr std::array<std::string_view, 4> names = {"off", "standard", "detailed", "debug"};
  return names[static_cast<size_t>(level)];
}

MemoryTag::MemoryTag(std::string_view tag) : outer_(std::exchange(t_tag, tag)) {}
MemoryTag::~MemoryTag() {
  t_tag = outer_;
}
std::string_view MemoryTag::current() {
  return t_tag;
}

std::string LeakReport::to_string() const {
  std::string text = fmt::format("{} blocks, {} bytes", blocks, bytes);
  for (const BlockRecord& record : records) {
    text += fmt::format("\n  {} bytes at {}, tag \"{}\", allocation {}, {:.3f} s old", record.bytes,
                        record.address, record.tag, record.sequence, record.age_seconds);
    for (const std::string& frame : record.stack) text += "\n      " + frame;
  }
  return text;
}

namespace memory {
namespace {

constexpr size_t kMostRecords = 1000;
constexpr int kMostFrames = 24;

/// Small numbers in order of first appearance.
uint32_t thread_number() {
  static std::atomic<uint32_t> next{1};
  thread_local const uint32_t number = next++;
  return number;
}

std::vector<void*> current_stack() {
  std::array<void*, kMostFrames> frames{};
  const int count = ::backtrace(frames.data(), kMostFrames);
  return std::vector<void*>(frames.begin(),
                            frames.begin() + count);  // braces would make two elements of them
}

std::vector<std::string> symbols(const std::vector<void*>& stack) {
  std::vector<std::string> names;
  if (stack.empty()) return names;
  const std::unique_ptr<char*, decltype(&std::free)> text(
      ::backtrace_symbols(stack.data(), static_cast<int>(stack.size())), &std::free);
  for (size_t i = 0; text != nullptr && i < stack.size(); ++i) names.emplace_back(text.get()[i]);
  return names;
}

}  // namespace

void Tracker::start(int64_t live_bytes) {
  const std::lock_guard lock(mutex_);
  records_.clear();
  live_bytes_ = live_bytes;
  peak_bytes_ = std::max(peak_bytes_, live_bytes);
  events_.reserve(capacity_);
}

uint32_t Tracker::intern(std::string_view tag) {
  if (const auto found = tag_ids_.find(tag); found != tag_ids_.end()) return found->second;
  tags_.push_back({std::string(tag)});
  return tag_ids_.emplace(tag, static_cast<uint32_t>(tags_.size() - 1)).first->second;
}

void Tracker::note(const void* block, size_t bytes, uint32_t tag, bool freed) noexcept {
  const auto size = static_cast<int64_t>(bytes);
  live_bytes_ += freed ? -size : size;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  if (capacity_ == 0) return;
  const double time_us = std::chrono::duration<double, std::micro>(Clock::now() - origin_).count();
  const Event event{time_us, block, size, live_bytes_, tag, thread_number(), freed};
  if (events_.size() < capacity_) {
    events_.push_back(event);  // within what start() reserved
  } else {
    events_[event_count_ % capacity_] = event;
  }
  ++event_count_;
}

void Tracker::on_allocate(const void* block, size_t bytes, bool with_stack) {
  std::vector<void*> stack = with_stack ? current_stack() : std::vector<void*>();
  const std::lock_guard lock(mutex_);
  const uint32_t tag = intern(MemoryTag::current());
  // A stale record of the same address can only be that of a block freed while tracking was lower.
  records_.insert_or_assign(block, Record{bytes, tag, ++sequence_, Clock::now(), std::move(stack)});
  TagStats& of = tags_[tag];
  ++of.allocations;
  ++of.live_blocks;
  of.live_bytes += static_cast<int64_t>(bytes);
  of.peak_bytes = std::max(of.peak_bytes, of.live_bytes);
  note(block, bytes, tag, false);
}

void Tracker::on_free(const void* block, size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  uint32_t tag = 0;
  if (const auto found = records_.find(block); found != records_.end()) {
    tag = found->second.tag;
    --tags_[tag].live_blocks;
    tags_[tag].live_bytes -= static_cast<int64_t>(found->second.bytes);
    records_.erase(found);
  }
  note(block, bytes, tag, true);
}

int64_t Tracker::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_bytes_;
}

uint64_t Tracker::sequence() const {
  const std::lock_guard lock(mutex_);
  return sequence_;
}

std::vector<TagStats> Tracker::tags() const {
  const std::lock_guard lock(mutex_);
  return tags_;
}

LeakReport Tracker::live(uint64_t since, double min_age_seconds) const {
  const std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  const auto age = [now](const Record& record) {
    return std::chrono::duration<double>(now - record.time).count();
  };
  LeakReport report;
  std::vector<std::pair<const void*, const Record*>> found;
  for (const auto& [block, record] : records_) {
    if (record.sequence <= since || age(record) < min_age_seconds) continue;
    ++report.blocks;
    report.bytes += static_cast<int64_t>(record.bytes);
    found.emplace_back(block, &record);
  }
  std::ranges::sort(found, [](const auto& a, const auto& b) {
    return std::pair(b.second->bytes, a.second->sequence) < std::pair(a.second->bytes, b.second->sequence);
  });
  found.resize(std::min(found.size(), kMostRecords));
  for (const auto& [block, record] : found) {
    report.records.push_back({block, static_cast<int64_t>(record->bytes), tags_[record->tag].tag,
                              age(*record), record->sequence, symbols(record->stack)});
  }
  return report;
}

std::vector<TimelineEvent> Tracker::events_in_order() const {
  std::vector<TimelineEvent> events;
  events.reserve(events_.size());
  const size_t oldest = events_.size() < capacity_ || capacity_ == 0 ? 0 : event_count_ % capacity_;
  for (size_t i = 0; i < events_.size(); ++i) {
    const Event& event = events_[(oldest + i) % events_.size()];
    // A free without a record has tag 0, which exists only if some allocation was recorded.
    events.push_back({event.time_us, event.block, event.bytes, event.live_bytes,
                      tags_.empty() ? std::string() : tags_[event.tag].tag, event.thread, event.freed});
  }
  return events;
}

std::vector<TimelineEvent> Tracker::timeline() const {
  const std::lock_guard lock(mutex_);
  return events_in_order();
}

std::string Tracker::timeline_json() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json events = nlohmann::json::array();
  for (const TimelineEvent& event : events_in_order()) {
    events.push_back({{"time_us", event.time_us},
                      {"kind", event.freed ? "free" : "allocate"},
                      {"address", fmt::format("{}", event.address)},
                      {"bytes", event.bytes},
                      {"tag", event.tag},
                      {"thread", event.thread},
                      {"live_bytes", event.live_bytes}});
  }
  return nlohmann::json{{"dropped", event_count_ - events_.size()}, {"events", std::move(events)}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string Tracker::timeline_chrome_trace() const {
  nlohmann::json events = nlohmann::json::array();
  for (const TimelineEvent& event : timeline()) {
    events.push_back({{"name", "live bytes"},
                      {"ph", "C"},
                      {"pid", 1},
                      {"ts", event.time_us},
                      {"args", {{"live_bytes", event.live_bytes}}}});
    events.push_back({{"name", (event.freed ? "free " : "allocate ") + event.tag},
                      {"ph", "i"},
                      {"s", "t"},
                      {"pid", 1},
                      {"tid", event.thread},
                      {"ts", event.time_us},
                      {"args", {{"bytes", event.bytes}, {"address", fmt::format("{}", event.address)}}}});
  }
  return nlohmann::json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ns"}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace memory
}  // namespace bitnet
