#pragma once

#include "bitnet/core/device.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace bitnet {

/// Bytes on a device with an owner, counted by the tensors that share them. Made by the functions of
/// StorageRef; the count is atomic, the bytes are not guarded: threads that write what others read must agree
/// among themselves.
struct Storage {
  using Release = void (*)(Storage* self) noexcept;

  std::byte* data = nullptr;
  int64_t bytes = 0;
  Device device;
  bool writable = true;
  std::atomic<int32_t> references{1};
  Release release = nullptr;  ///< gives back the bytes and this object
  void* owner = nullptr;      ///< what release needs
};

/// A counted reference to a Storage; null by default.
class StorageRef {
 public:
  StorageRef() noexcept = default;
  StorageRef(const StorageRef& other) noexcept : storage_(other.storage_) {
    if (storage_ != nullptr) storage_->references.fetch_add(1, std::memory_order_relaxed);
  }
  StorageRef(StorageRef&& other) noexcept : storage_(std::exchange(other.storage_, nullptr)) {}
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageRef() {
    if (storage_ != nullptr && storage_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      storage_->release(storage_);
    }
  }

  /// `bytes` from the device's HybridMemoryPool, 64-byte aligned, not initialized unless `zeroed`.
  /// Throws kOutOfMemory, kUnsupported if the device has no pool (see register_gpu_memory in
  /// bitnet/ops/devices.h).
  static StorageRef allocate(int64_t bytes, Device device = kCpuDevice, bool zeroed = false);
  /// Bytes of somebody else, who stays alive as long as `owner`. An empty owner is a promise of the caller
  /// that they outlive every tensor over them.
  static StorageRef borrow(std::byte* data, int64_t bytes, std::shared_ptr<const void> owner = {},
                           bool writable = true, Device device = kCpuDevice);

  [[nodiscard]] Storage* get() const noexcept { return storage_; }
  Storage* operator->() const noexcept { return storage_; }
  explicit operator bool() const noexcept { return storage_ != nullptr; }

 private:
  explicit StorageRef(Storage* storage) noexcept : storage_(storage) {}
  Storage* storage_ = nullptr;
};

}  // namespace bitnet
