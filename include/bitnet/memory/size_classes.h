#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace bitnet::memory {

/// Every block of the pool has at least this alignment: a cache line, and the widest vector.
inline constexpr size_t kBlockAlignment = 64;
/// Up to here blocks are cut from slabs, and allocation is inlined.
inline constexpr size_t kSmallLimit = size_t{8} << 10;
/// Up to here sizes are rounded to a class, and freed blocks are kept per thread.
inline constexpr size_t kMediumLimit = size_t{1} << 20;

/// Multiples of 64 up to 2048, then 16 classes for each doubling: a block is at most 1/16 (from 1 KB on)
/// larger than what was asked for.
inline constexpr uint32_t kSmallClasses = 64;
inline constexpr uint32_t kClasses = 176;

/// The class of a size in [0, kMediumLimit].
constexpr uint32_t size_class(size_t bytes) {
  const size_t last = bytes - (bytes != 0 ? 1 : 0);
  if (last < 2048) return static_cast<uint32_t>(last >> 6);
  const auto width = static_cast<uint32_t>(std::bit_width(last));
  return 16 * (width - 10) + static_cast<uint32_t>((last >> (width - 5)) & 15);
}

/// Bytes of a block of that class.
constexpr size_t class_bytes(uint32_t size_class) {
  if (size_class < 16) return (size_t{size_class} + 1) * 64;
  return (size_t{size_class} % 16 + 17) << (size_class / 16 + 5);
}

static_assert(size_class(kSmallLimit) == kSmallClasses - 1 && size_class(kSmallLimit + 1) == kSmallClasses);
static_assert(size_class(kMediumLimit) == kClasses - 1 && class_bytes(kClasses - 1) == kMediumLimit);

}  // namespace bitnet::memory
