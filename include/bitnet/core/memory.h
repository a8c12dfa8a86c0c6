#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace bitnet {

/// Alignment of every buffer: a cache line, and the widest vector.
inline constexpr size_t kAlignment = 64;

/// Huge pages spare address translation where all of a buffer is used; where it fills up little by little in
/// many places (a KV cache), each first touch would make 2 MB resident.
enum class HugePages { kWanted, kAvoided };

/// Move-only, 64-byte aligned, zero-initialized memory. Large buffers come straight from the system as zero
/// pages, so an untouched part costs nothing. Throws kOutOfMemory.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes, HugePages huge_pages = HugePages::kWanted);
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~AlignedBuffer();

  [[nodiscard]] std::byte* data() { return data_; }
  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  template <class T>
  [[nodiscard]] T* as() {
    return reinterpret_cast<T*>(data_);
  }
  template <class T>
  [[nodiscard]] const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  void swap(AlignedBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Hands out aligned pieces of one buffer; all of them are released together. Not thread-safe.
class Arena {
 public:
  explicit Arena(size_t bytes) : buffer_(bytes) {}

  /// `count` elements, 64-byte aligned, content unspecified after reset(). Throws kOutOfMemory when full.
  template <class T>
  [[nodiscard]] std::span<T> allocate(size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    return {reinterpret_cast<T*>(take(count, sizeof(T))), count};
  }
  void reset() { used_ = 0; }
  [[nodiscard]] size_t used_bytes() const { return used_; }
  [[nodiscard]] size_t capacity_bytes() const { return buffer_.size(); }

 private:
  std::byte* take(size_t count, size_t element_bytes);

  AlignedBuffer buffer_;
  size_t used_ = 0;
};

/// Resident set of this process now and at its peak, in bytes (Linux: /proc/self/status).
struct ProcessMemory {
  int64_t resident_bytes = 0;
  int64_t peak_resident_bytes = 0;
};
[[nodiscard]] ProcessMemory process_memory();

}  // namespace bitnet
