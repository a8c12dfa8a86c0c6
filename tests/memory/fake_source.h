#pragma once

#include "bitnet/memory/source.h"

#include <cstdlib>
#include <map>
#include <mutex>

namespace bitnet {

/// A device's memory as a test sees it: every mapping is known, may be refused, and must come back as it
/// went.
class FakeSource : public MemorySource {
 public:
  explicit FakeSource(bool host_accessible = true, size_t total_bytes = size_t{1} << 30)
      : host_accessible_(host_accessible), total_(total_bytes) {}
  ~FakeSource() override {
    for (const auto& [memory, bytes] : mapped_) std::free(memory);
  }

  [[nodiscard]] std::string_view name() const override { return "fake"; }
  [[nodiscard]] void* map(size_t bytes) override {
    const std::lock_guard lock(mutex_);
    if (bytes > total_ - used_) return nullptr;
    void* memory = std::aligned_alloc(512, (bytes + 511) / 512 * 512);
    mapped_[memory] = bytes;
    used_ += bytes;
    return memory;
  }
  void unmap(void* memory, size_t bytes) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto found = mapped_.find(memory);
    if (found == mapped_.end() || found->second != bytes) {
      ++wrong_unmaps_;
      return;
    }
    used_ -= bytes;
    mapped_.erase(found);
    std::free(memory);
  }
  [[nodiscard]] bool host_accessible() const override { return host_accessible_; }
  [[nodiscard]] MemoryCapacity capacity() const override {
    const std::lock_guard lock(mutex_);
    return {static_cast<int64_t>(used_), static_cast<int64_t>(total_)};
  }

  [[nodiscard]] size_t used() const { return static_cast<size_t>(capacity().used_bytes); }
  [[nodiscard]] int wrong_unmaps() const { return wrong_unmaps_; }

 private:
  const bool host_accessible_;
  const size_t total_;
  mutable std::mutex mutex_;
  std::map<void*, size_t> mapped_;
  size_t used_ = 0;
  int wrong_unmaps_ = 0;
};

}  // namespace bitnet
