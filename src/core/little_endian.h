#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace bitnet {

// Every file format of the project is little endian, and so are all machines that it runs on; values in files
// have no alignment. A big-endian port needs a byte swap here and in PackedTernary::set_group.
static_assert(std::endian::native == std::endian::little);

template <class T>
[[nodiscard]] T load_le(const std::byte* bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <class T>
void store_le(std::byte* bytes, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(bytes, &value, sizeof(T));
}

}  // namespace bitnet
