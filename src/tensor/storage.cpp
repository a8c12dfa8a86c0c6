#include "bitnet/tensor/storage.h"

#include "bitnet/core/error.h"
#include "bitnet/core/memory.h"

#include <cstring>
#include <new>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// Storage and its bytes in one block, the bytes at the next cache line.
constexpr int64_t kHeaderBytes = 64;
static_assert(sizeof(Storage) <= kHeaderBytes);

struct Borrowed : Storage {
  std::shared_ptr<const void> keep_alive;
};

}  // namespace

StorageRef StorageRef::allocate(int64_t bytes, Device device, bool zeroed) {
  if (device != kCpuDevice) {
    throw Error(ErrorCode::kDevice, fmt::format("no memory pool for {}", to_string(device)));
  }
  void* block = ::operator new(static_cast<size_t>(bytes + kHeaderBytes), std::align_val_t(kAlignment));
  auto* storage = new (block) Storage;
  storage->data = static_cast<std::byte*>(block) + kHeaderBytes;
  storage->bytes = bytes;
  if (zeroed) std::memset(storage->data, 0, static_cast<size_t>(bytes));
  storage->release = [](Storage* self) noexcept {
    self->~Storage();
    ::operator delete(static_cast<void*>(self), std::align_val_t(kAlignment));
  };
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
