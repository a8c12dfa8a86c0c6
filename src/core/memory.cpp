#include "bitnet/core/memory.h"

#include "bitnet/core/error.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <sys/mman.h>

namespace bitnet {
namespace {

// From here on the kernel's zero pages are cheaper than memset.
constexpr size_t kMapThreshold = size_t{1} << 20;

[[noreturn]] void throw_out_of_memory(size_t bytes) {
  throw Error(ErrorCode::kOutOfMemory, fmt::format("cannot allocate {} bytes", bytes),
              "use a smaller model, context or batch, or a machine with more memory");
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes, HugePages huge_pages) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes >= kMapThreshold) {
    void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) throw_out_of_memory(bytes);
    ::madvise(address, bytes, huge_pages == HugePages::kWanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    data_ = static_cast<std::byte*>(address);
    return;
  }
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
  if (data_ == nullptr) throw_out_of_memory(bytes);
  std::memset(data_, 0, rounded);
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ == nullptr) return;
  if (size_ >= kMapThreshold) {
    ::munmap(data_, size_);
  } else {
    std::free(data_);
  }
}

std::byte* Arena::take(size_t count, size_t element_bytes) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, element_bytes, &bytes) || bytes > buffer_.size() - used_) {
    throw Error(ErrorCode::kOutOfMemory,
                fmt::format("the arena of {} bytes is full: {} in use, {} x {} asked for", buffer_.size(),
                            used_, count, element_bytes));
  }
  std::byte* piece = buffer_.data() + used_;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  used_ = rounded > buffer_.size() - used_ ? buffer_.size() : used_ + rounded;
  return piece;
}

ProcessMemory process_memory() {
  ProcessMemory memory;
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    const auto kib = [&line] { return std::atoll(line.c_str() + line.find(':') + 1) * 1024; };
    if (line.starts_with("VmRSS:")) memory.resident_bytes = kib();
    if (line.starts_with("VmHWM:")) memory.peak_resident_bytes = kib();
  }
  return memory;
}

}  // namespace bitnet
