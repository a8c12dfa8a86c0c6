#include "bitnet/memory/source.h"
#include "memory/large_blocks.h"
#include "memory/poison.h"
#include "memory/system_memory.h"

#include <cstring>

#include <sys/mman.h>

namespace bitnet {
namespace {

/// At the begin of a mapping: a program that needs little must not fault in 2 MB with its first block.
constexpr size_t kSmallPages = 2 * memory::kHugePage;

class SystemSource final : public MemorySource {
 public:
  [[nodiscard]] std::string_view name() const override { return "system"; }

  /// Aligned to huge pages: more is mapped, and the edges go back.
  [[nodiscard]] void* map(size_t bytes) override {
    const size_t more = bytes + memory::kHugePage;
    if (more < bytes) return nullptr;
    // No reservation: regions are mapped ahead of use. What can be used is LargeBlocks' business.
    void* address =
        ::mmap(nullptr, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) return nullptr;
    auto* begin = static_cast<std::byte*>(address);
    const size_t head = -reinterpret_cast<uintptr_t>(begin) & (memory::kHugePage - 1);
    if (head != 0) ::munmap(begin, head);
    ::munmap(begin + head + bytes, memory::kHugePage - head);
    begin += head;
    if (bytes > kSmallPages) ::madvise(begin + kSmallPages, bytes - kSmallPages, MADV_HUGEPAGE);
    return begin;
  }
  void unmap(void* address, size_t bytes) noexcept override {
    memory::unpoison(address, bytes);  // someone else may get these addresses
    ::munmap(address, bytes);
  }
  [[nodiscard]] bool lazy() const override { return true; }
  bool discard(void* address, size_t bytes) noexcept override {
    return ::madvise(address, bytes, MADV_DONTNEED) == 0;
  }
  [[nodiscard]] MemoryCapacity capacity() const override {
    const MemoryCapacity system = memory::system_memory().value_or(MemoryCapacity{});
    const MemoryCapacity group = memory::cgroup_memory().value_or(system);
    return group.total_bytes < system.total_bytes ? group : system;
  }
};

}  // namespace

void MemorySource::zero(void* memory, size_t bytes) {
  std::memset(memory, 0, bytes);
}

std::shared_ptr<MemorySource> system_memory_source() {
  return std::make_shared<SystemSource>();
}

}  // namespace bitnet
