#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace bitnet {

/// A whole file mapped read-only, and held open. Move-only. Throws kNotFound or kIo.
/// The file must not be truncated while mapped (the system would deliver SIGBUS); open() takes no lock.
class MappedFile {
 public:
  MappedFile() = default;
  static MappedFile open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Tells the system that this part (a subspan of bytes()) will not be read again soon, so that its pages no
  /// longer count as resident. Reading it again is correct, only slower.
  static void drop_resident(std::span<const std::byte> part);
  /// Copies a part (of bytes() of any open MappedFile) to `out` by reading the file: its pages do not become
  /// resident, and no page is mapped for a few bytes of it. Other memory is copied. Throws kIo.
  static void read(std::span<const std::byte> part, std::byte* out);

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace bitnet
