#pragma once

#include "bitnet/core/atomic_file.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// What the writers of both formats share: an atomic file of a header and then tensors, one after another,
/// each begun at a multiple of `alignment` of the data. Order of calls: add(), begin(), write(), finish();
/// any other order, a name added twice, and byte counts that disagree throw kInvalidArgument.
class TensorStream {
 public:
  TensorStream(const std::filesystem::path& path, int64_t alignment);

  struct Entry {
    std::string name;
    int64_t offset;  ///< from the beginning of the data
    int64_t size;
  };

  /// Throws if begin() was called already.
  void require_open_header(std::string_view caller) const;
  void add(std::string name, int64_t size);
  [[nodiscard]] const Entry& entry(size_t index) const { return entries_[index]; }

  /// Writes the header, padded with zeros to the alignment. The caller may pad it itself.
  void begin(std::string_view header);
  void write(std::span<const std::byte> bytes);
  void finish();

 private:
  enum class State { kHeader, kData, kFinished };
  [[nodiscard]] int64_t aligned(int64_t size) const {
    return (size + alignment_ - 1) / alignment_ * alignment_;
  }
  void pad();
  void close_full_tensors();

  AtomicFile file_;
  int64_t alignment_;
  State state_ = State::kHeader;
  std::vector<Entry> entries_;
  std::set<std::string, std::less<>> names_;
  int64_t data_size_ = 0;  // of what was added, padded
  size_t current_ = 0;     // the entry being written
  int64_t written_ = 0;    // bytes of it
};

}  // namespace bitnet
