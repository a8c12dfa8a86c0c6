#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace bitnet {

/// Writes a file under a temporary name beside its target and renames it at commit(), so that the target is
/// always absent, the old file, or the whole new one. Without commit() the temporary file is removed.
/// Throws kIo (e.g. disk full) with the path. Not thread-safe.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> data);
  void write(std::string_view text);
  /// Overwrites bytes that were written before (headers whose content is known late).
  void write_at(int64_t offset, std::span<const std::byte> data);
  [[nodiscard]] int64_t size() const { return size_; }
  /// Flushes to the device and renames. No write is allowed afterwards.
  void commit();

 private:
  [[noreturn]] void fail(std::string_view action) const;
  void write_all(const std::byte* data, size_t size, int64_t offset);

  std::filesystem::path target_, temporary_;
  int fd_ = -1;
  int64_t size_ = 0;
};

}  // namespace bitnet
