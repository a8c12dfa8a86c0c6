#include "io/tensor_stream.h"

#include "bitnet/core/error.h"

#include <iterator>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

[[noreturn]] void throw_order(std::string message) {
  throw Error(ErrorCode::kInvalidArgument, std::move(message),
              "the order is: metadata and tensors, begin(), each tensor's bytes, finish()");
}

}  // namespace

TensorStream::TensorStream(const std::filesystem::path& path, int64_t alignment)
    : file_(path), alignment_(alignment) {}

void TensorStream::require_open_header(std::string_view caller) const {
  if (state_ != State::kHeader) throw_order(fmt::format("{} after begin()", caller));
}

void TensorStream::add(std::string name, int64_t size) {
  require_open_header("a tensor was added");
  if (!names_.insert(name).second) throw_order(fmt::format("the tensor {:?} is added twice", name));
  int64_t padded_end = 0;
  if (size < 0 || __builtin_add_overflow(data_size_ + alignment_ - 1, size, &padded_end)) {
    throw_order(fmt::format("tensor {:?} of {} bytes makes the file overflow 63 bits", name, size));
  }
  entries_.push_back({std::move(name), data_size_, size});
  data_size_ = aligned(data_size_ + size);
}

void TensorStream::begin(std::string_view header) {
  require_open_header("begin()");
  file_.write(header);
  pad();
  state_ = State::kData;
  close_full_tensors();
}

void TensorStream::write(std::span<const std::byte> bytes) {
  if (state_ != State::kData) throw_order("tensor bytes were written before begin() or after finish()");
  if (bytes.empty()) return;
  if (current_ == entries_.size()) throw_order(fmt::format("{} bytes beyond the last tensor", bytes.size()));
  const Entry& entry = entries_[current_];
  if (std::ssize(bytes) > entry.size - written_) {
    throw_order(fmt::format("{} bytes more for tensor {:?}, which has {} of its {}", bytes.size(), entry.name,
                            written_, entry.size));
  }
  file_.write(bytes);
  written_ += std::ssize(bytes);
  close_full_tensors();
}

void TensorStream::finish() {
  if (state_ != State::kData) throw_order("finish() before begin(), or twice");
  if (current_ != entries_.size()) {
    throw_order(fmt::format("finish() with tensor {:?} at {} of {} bytes", entries_[current_].name, written_,
                            entries_[current_].size));
  }
  file_.commit();
  state_ = State::kFinished;
}

void TensorStream::pad() {
  const std::string zeros(static_cast<size_t>(aligned(file_.size()) - file_.size()), '\0');
  file_.write(zeros);
}

/// Moves past every tensor that has all of its bytes, empty ones included.
void TensorStream::close_full_tensors() {
  while (current_ < entries_.size() && written_ == entries_[current_].size) {
    pad();
    ++current_;
    written_ = 0;
  }
}

}  // namespace bitnet
