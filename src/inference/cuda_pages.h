#pragma once

#include "inference/cuda_memory.h"

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace bitnet::cuda {

/// Pages of one GPU's memory for address ranges that grow: those that are given back are there for the next.
/// Thread-safe.
class PagePool {
 public:
  /// Null where the GPU in use has no pages.
  [[nodiscard]] static std::shared_ptr<PagePool> make(int device);
  PagePool(int device, size_t page_bytes) : device_(device), page_bytes_(page_bytes) {}
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();

  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] size_t page_bytes() const { return page_bytes_; }
  /// Throws kOutOfMemory.
  [[nodiscard]] Page take();
  void give(Page page);
  /// Of the pages that are taken.
  [[nodiscard]] size_t taken_bytes() const;

 private:
  int device_;
  size_t page_bytes_;
  mutable std::mutex mutex_;
  std::vector<Page> free_;
  size_t taken_ = 0;
};

/// An address range on the GPU that has memory where map() asked for it; without a pool, everywhere.
class PagedMemory {
 public:
  PagedMemory() = default;
  PagedMemory(std::shared_ptr<PagePool> pool, size_t bytes);
  PagedMemory(const PagedMemory&) = delete;
  PagedMemory& operator=(const PagedMemory&) = delete;
  ~PagedMemory();

  [[nodiscard]] void* data() const { return address_ != nullptr ? address_ : whole_.data(); }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data());
  }
  /// Gives memory to bytes [begin, end); the pages that are new there go to `added`, also where it throws
  /// (kOutOfMemory).
  void map(size_t begin, size_t end, std::vector<size_t>& added);
  /// Gives back pages that nothing uses.
  void unmap(std::span<const size_t> pages);

 private:
  [[nodiscard]] size_t reserved_bytes() const { return pages_.size() * pool_->page_bytes(); }
  void* page_address(size_t index) const {
    return static_cast<std::byte*>(address_) + index * pool_->page_bytes();
  }

  std::shared_ptr<PagePool> pool_;
  size_t bytes_ = 0;
  DeviceBuffer whole_;
  void* address_ = nullptr;
  std::vector<std::optional<Page>> pages_;
};

}  // namespace bitnet::cuda
