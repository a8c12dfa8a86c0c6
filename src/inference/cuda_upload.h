#pragma once

#include "bitnet/core/thread_pool.h"
#include "inference/cuda_memory.h"
#include "inference/model_impl.h"
#include "quant/ternary_tiles.h"

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace bitnet::cuda {

/// Copies weights to the GPU through two pinned buffers in turn: one is filled on all threads while the other
/// travels.
class Uploader {
 public:
  /// `total`: bytes that `progress` is told of.
  Uploader(int threads, int64_t total, OnProgress progress)
      : pool_(threads), total_(total), progress_(std::move(progress)) {}

  /// Padded with zeros to kPad elements; an empty buffer for an empty vector.
  [[nodiscard]] DeviceBuffer vector(std::span<const float> values);
  /// Rows at a stride of 16 bytes' multiple, zeros behind each row.
  [[nodiscard]] DeviceBuffer rows(const DenseMatrix& matrix, int64_t row_bytes);
  [[nodiscard]] DeviceBuffer tiles(const std::vector<TernaryRows>& parts, bool paired,
                                   TernaryWeights& weights, DeviceBuffer& row_scales);
  void finish();

 private:
  static constexpr size_t kStagingBytes = size_t{32} << 20;
  struct Staging {
    PinnedBuffer buffer{kStagingBytes};
    OwnedStream stream;
  };
  /// Fills `units` units of unit_bytes: fill(first unit, units, where), in pieces of a staging buffer.
  using Fill = std::function<void(int64_t first, int64_t count, std::byte* staging)>;
  /// The driver gives memory in steps of 2 MiB: smaller buffers share chunks, each in the first with room.
  [[nodiscard]] DeviceBuffer allocate(size_t bytes);
  [[nodiscard]] DeviceBuffer copy(int64_t units, size_t unit_bytes, const Fill& fill);

  ThreadPool pool_;
  int64_t done_ = 0, total_;
  OnProgress progress_;
  struct Chunk {
    std::shared_ptr<const DeviceBuffer> memory;
    size_t used;
  };
  std::vector<Chunk> chunks_;
  std::array<Staging, 2> staging_;
  size_t turn_ = 0;
};

}  // namespace bitnet::cuda
