#pragma once

#include "bitnet/core/memory.h"
#include "bitnet/core/thread_pool.h"
#include "inference/dense_matrix.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace bitnet {

/// An output head [rows, cols] rounded to int8, to find the rows that may hold the highest logits
/// (docs/NUMERICS.md):
///   scale[n] = max |w_n| / 127;  q[n, k] = round(w[n, k] / scale[n]);  error[n] >= ||w_n - scale[n] q_n||
/// in the groups of 16 rows that scan_i8 reads (src/kernels/kernel_table.h). A row with NaN, infinity or a
/// magnitude above 1e10 has scale 0 and an infinite error: nothing is known of its logits.
class Int8Head {
 public:
  static constexpr int64_t kGroupRows = 16;

  /// Whether a head of this type and width is worth rounding: its rows are longer than int8, and their sums
  /// fit int32.
  [[nodiscard]] static bool suits(const DenseMatrix& head);
  /// Called by several threads with parts of the head that have been read.
  using DoneWith = std::function<void(std::span<const std::byte>)>;
  /// Reads the head once, on all threads.
  Int8Head(const DenseMatrix& head, ThreadPool& pool, const DoneWith& done_with);

  [[nodiscard]] int64_t groups() const { return groups_; }
  [[nodiscard]] int64_t padded_cols() const { return padded_cols_; }
  [[nodiscard]] const uint8_t* weights() const { return weights_.as<uint8_t>(); }
  // Per row, for all 16 * groups() of them.
  [[nodiscard]] const float* scale() const { return scale_.data(); }
  [[nodiscard]] const float* error() const { return error_.data(); }  ///< ||w - scale q||, rounded up
  [[nodiscard]] const float* norm() const { return norm_.data(); }    ///< ||w|| + error, rounded up
  [[nodiscard]] int64_t bytes() const;

 private:
  void convert_group(const DenseMatrix& head, int64_t group, std::vector<float>& row, std::vector<int8_t>& q);

  int64_t groups_, padded_cols_;
  AlignedBuffer weights_;
  std::vector<float> scale_, error_, norm_;
};

}  // namespace bitnet
