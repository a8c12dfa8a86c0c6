#pragma once

#include "bitnet/core/memory.h"
#include "bitnet/core/thread_pool.h"
#include "inference/dense_matrix.h"

#include <cstdint>
#include <functional>
#include <span>

namespace bitnet {

/// A Q6_K output head with rows as lanes: the same codes and scales, and the same number of bytes, in the
/// groups of 16 rows that scan_q6_k reads (src/kernels/kernel_table.h).
class Q6Head {
 public:
  static constexpr int64_t kGroupRows = 16;

  [[nodiscard]] static bool suits(const DenseMatrix& head);
  /// Called by several threads with parts of the head that have been read.
  using DoneWith = std::function<void(std::span<const std::byte>)>;
  /// Reads the head once, on all threads.
  Q6Head(const DenseMatrix& head, ThreadPool& pool, const DoneWith& done_with);

  [[nodiscard]] int64_t group_bytes() const { return group_bytes_; }
  [[nodiscard]] const uint8_t* weights() const { return weights_.as<uint8_t>(); }
  [[nodiscard]] int64_t bytes() const { return static_cast<int64_t>(weights_.size()); }

 private:
  int64_t groups_, group_bytes_;
  AlignedBuffer weights_;
};

}  // namespace bitnet
