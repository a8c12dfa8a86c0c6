#pragma once

#include "bitnet/core/error.h"
#include "core/little_endian.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace bitnet {

/// Walks over untrusted bytes; every step is checked against what is left. `what` names the field in the
/// error.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] size_t position() const { return position_; }
  [[nodiscard]] size_t remaining() const { return bytes_.size() - position_; }

  template <class T>
  [[nodiscard]] T read(std::string_view what) {
    return load_le<T>(take(sizeof(T), what));
  }

  /// A u64 length and that many bytes.
  [[nodiscard]] std::string read_string(std::string_view what) {
    const auto length = read<uint64_t>(what);
    if (length > remaining()) fail(length, what);
    return {reinterpret_cast<const char*>(take(static_cast<size_t>(length), what)),
            static_cast<size_t>(length)};
  }

  /// A u64 count of things that take at least `least_bytes` each: refused before anything of that size is
  /// allocated.
  [[nodiscard]] uint64_t read_count(uint64_t least_bytes, std::string_view what) {
    const auto count = read<uint64_t>(what);
    check_count(count, least_bytes, what);
    return count;
  }

  void check_count(uint64_t count, uint64_t least_bytes, std::string_view what) const {
    if (count > remaining() / least_bytes) {
      throw Error(ErrorCode::kCorruptData,
                  fmt::format("{} claims {} entries of at least {} bytes, but only {} bytes are left", what,
                              count, least_bytes, remaining()),
                  "the file is cut off or damaged; download it again");
    }
  }

 private:
  const std::byte* take(size_t size, std::string_view what) {
    if (size > remaining()) fail(size, what);
    const std::byte* const at = bytes_.data() + position_;
    position_ += size;
    return at;
  }

  [[noreturn]] void fail(uint64_t wanted, std::string_view what) const {
    throw Error(ErrorCode::kCorruptData,
                fmt::format("the file ends inside {}: {} bytes wanted at byte {}, {} are left", what, wanted,
                            position_, remaining()),
                "the file is cut off or damaged; download it again");
  }

  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

}  // namespace bitnet
