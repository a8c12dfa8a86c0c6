#include "bitnet/core/atomic_file.h"

#include "bitnet/core/error.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace bitnet {

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
  temporary_ = target_;
  temporary_ += fmt::format(".{}.part", ::getpid());
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("create");
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> data) {
  write_all(data.data(), data.size(), size_);
  size_ += static_cast<int64_t>(data.size());
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text)));
}

void AtomicFile::write_at(int64_t offset, std::span<const std::byte> data) {
  if (offset < 0 || offset + static_cast<int64_t>(data.size()) > size_) {
    throw Error(ErrorCode::kInvalidArgument, "AtomicFile::write_at beyond what was written");
  }
  write_all(data.data(), data.size(), offset);
}

void AtomicFile::write_all(const std::byte* data, size_t size, int64_t offset) {
  while (size > 0) {
    const ssize_t written = ::pwrite(fd_, data, size, offset);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write");
    }
    data += written;
    size -= static_cast<size_t>(written);
    offset += written;
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail("flush");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("rename");
  ::close(fd_);
  fd_ = -1;
}

void AtomicFile::fail(std::string_view action) const {
  const int reason = errno;
  throw Error(ErrorCode::kIo,
              fmt::format("cannot {} {}: {}", action, temporary_.string(), std::strerror(reason)),
              reason == ENOSPC ? "free some disk space; the target was not touched"
                               : "check that the folder exists and can be written");
}

}  // namespace bitnet
