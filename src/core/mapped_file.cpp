#include "bitnet/core/mapped_file.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace bitnet {
namespace {

/// What is mapped where, for read(), which knows addresses only.
class Mappings {
 public:
  struct Place {
    int fd = -1;
    off_t offset = 0;
  };
  void add(const std::byte* data, size_t size, int fd) {
    const std::unique_lock lock(mutex_);
    files_[data] = {size, fd};
  }
  void remove(const std::byte* data) {
    const std::unique_lock lock(mutex_);
    const auto file = files_.find(data);
    ::close(file->second.fd);
    files_.erase(file);
  }
  /// Without a file if no mapping holds all of the part.
  [[nodiscard]] Place find(std::span<const std::byte> part) const {
    const std::shared_lock lock(mutex_);
    auto next = files_.upper_bound(part.data());
    if (next == files_.begin()) return {};
    const auto& [data, file] = *--next;
    const auto offset = static_cast<size_t>(part.data() - data);
    if (offset > file.size || part.size() > file.size - offset) return {};
    return {file.fd, static_cast<off_t>(offset)};
  }

 private:
  struct File {
    size_t size;
    int fd;
  };
  mutable std::shared_mutex mutex_;
  std::map<const std::byte*, File> files_;
};

Mappings& mappings() {
  static auto* const all = new Mappings;  // outlives every MappedFile
  return *all;
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const int reason = errno;
    const ErrorCode code = reason == ENOENT || reason == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
    throw Error(code, fmt::format("cannot open {}: {}", path.string(), std::strerror(reason)),
                "check the path and its permissions");
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw Error(ErrorCode::kIo, fmt::format("{} is not a regular file", path.string()));
  }
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<size_t>(info.st_size);
  if (file.size_ > 0) {
    void* address = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) {
      const int reason = errno;
      ::close(fd);
      throw Error(ErrorCode::kIo, fmt::format("cannot map {}: {}", path.string(), std::strerror(reason)));
    }
    file.data_ = static_cast<const std::byte*>(address);
    mappings().add(file.data_, file.size_, fd);
  } else {
    ::close(fd);
  }
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept {
  *this = std::move(other);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  mappings().remove(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop_resident(std::span<const std::byte> part) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  // Only pages that lie wholly inside: the neighbours may still be in use.
  const auto begin = (reinterpret_cast<uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(part.data() + part.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void MappedFile::read(std::span<const std::byte> part, std::byte* out) {
  const Mappings::Place place = mappings().find(part);
  if (place.fd < 0) {
    std::copy(part.begin(), part.end(), out);
    return;
  }
  for (size_t done = 0; done < part.size();) {
    const ssize_t count =
        ::pread(place.fd, out + done, part.size() - done, place.offset + static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw Error(ErrorCode::kIo, fmt::format("cannot read {} bytes of a mapped file: {}", part.size() - done,
                                              count < 0 ? std::strerror(errno) : "it has become shorter"));
    }
    done += static_cast<size_t>(count);
  }
}

}  // namespace bitnet
