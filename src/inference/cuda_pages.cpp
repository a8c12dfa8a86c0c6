#include "inference/cuda_pages.h"

#include "bitnet/core/error.h"

#include <utility>

namespace bitnet::cuda {

std::shared_ptr<PagePool> PagePool::make(int device) {
  table().use_device(device);
  const size_t bytes = table().page_bytes();
  return bytes == 0 ? nullptr : std::make_shared<PagePool>(device, bytes);
}

PagePool::~PagePool() {
  for (const Page page : free_) table().destroy_page(page);
}

Page PagePool::take() {
  const std::scoped_lock lock(mutex_);
  Page page;
  if (free_.empty()) {
    table().use_device(device_);
    page = table().create_page();
  } else {
    page = free_.back();
    free_.pop_back();
  }
  ++taken_;
  return page;
}

void PagePool::give(Page page) {
  const std::scoped_lock lock(mutex_);
  free_.push_back(page);
  --taken_;
}

size_t PagePool::taken_bytes() const {
  const std::scoped_lock lock(mutex_);
  return taken_ * page_bytes_;
}

PagedMemory::PagedMemory(std::shared_ptr<PagePool> pool, size_t bytes)
    : pool_(std::move(pool)), bytes_(bytes) {
  if (pool_ == nullptr) {
    whole_ = DeviceBuffer(bytes);
    return;
  }
  pages_.resize((bytes + pool_->page_bytes() - 1) / pool_->page_bytes());
  address_ = table().reserve_addresses(reserved_bytes());
}

PagedMemory::~PagedMemory() {
  if (address_ == nullptr) return;
  try {
    table().use_device(pool_->device());
    table().finish();       // kernels may be on their way that read it
  } catch (const Error&) {  // a kernel failed: nothing runs any more
  }
  for (size_t i = 0; i < pages_.size(); ++i) {
    if (pages_[i]) unmap({&i, 1});
  }
  table().free_addresses(address_, reserved_bytes());
}

void PagedMemory::map(size_t begin, size_t end, std::vector<size_t>& added) {
  if (pool_ == nullptr) return;
  for (size_t i = begin / pool_->page_bytes(); i * pool_->page_bytes() < end; ++i) {
    if (pages_[i]) continue;
    const Page page = pool_->take();
    try {
      table().map_page(page_address(i), page);
    } catch (...) {
      pool_->give(page);
      throw;
    }
    pages_[i] = page;
    added.push_back(i);
  }
}

void PagedMemory::unmap(std::span<const size_t> pages) {
  for (const size_t index : pages) {
    table().unmap_page(page_address(index), pool_->page_bytes());
    pool_->give(*pages_[index]);
    pages_[index].reset();
  }
}

}  // namespace bitnet::cuda
