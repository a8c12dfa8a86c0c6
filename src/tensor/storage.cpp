#include "bitnet/tensor/storage.h"

#include "bitnet/memory/pool.h"

#include <new>

namespace bitnet {
namespace {

/// Of host tensors Storage and bytes are one block, the bytes at the next cache line.
constexpr size_t kHeaderBytes = 64;
static_assert(sizeof(Storage) <= kHeaderBytes);

struct Borrowed : Storage {
  std::shared_ptr<const void> keep_alive;
};

void release_host(Storage* self) noexcept {
  const size_t bytes = kHeaderBytes + static_cast<size_t>(self->bytes);
  auto* pool = static_cast<HybridMemoryPool*>(self->owner);
  self->~Storage();
  pool->deallocate_raw(self, bytes);
}

void release_device(Storage* self) noexcept {
  static_cast<HybridMemoryPool*>(self->owner)->deallocate_raw(self->data, static_cast<size_t>(self->bytes));
  delete self;
}

}  // namespace

StorageRef StorageRef::allocate(int64_t bytes, Device device, bool zeroed) {
  const auto size = static_cast<size_t>(bytes);
  HybridMemoryPool& pool =
      device == kCpuDevice ? HybridMemoryPool::instance() : HybridMemoryPool::instance(device);
  const auto take = [&](size_t wanted) {
    return zeroed ? pool.allocate_zeroed_raw(wanted) : pool.allocate_raw(wanted);
  };
  Storage* storage = nullptr;
  if (is_host(device)) {
    void* block = take(kHeaderBytes + size);
    storage = new (block) Storage;
    storage->data = static_cast<std::byte*>(block) + kHeaderBytes;
    storage->release = release_host;
  } else {
    auto header = std::make_unique<Storage>();
    header->data = static_cast<std::byte*>(take(size));
    header->release = release_device;
    storage = header.release();
  }
  storage->bytes = bytes;
  storage->device = device;
  storage->owner = &pool;
  return StorageRef(storage);
}

StorageRef StorageRef::borrow(std::byte* data, int64_t bytes, std::shared_ptr<const void> owner,
                              bool writable, Device device) {
  auto* storage = new Borrowed;
  storage->data = data;
  storage->bytes = bytes;
  storage->device = device;
  storage->writable = writable;
  storage->keep_alive = std::move(owner);
  storage->release = [](Storage* self) noexcept { delete static_cast<Borrowed*>(self); };
  return StorageRef(storage);
}

}  // namespace bitnet
