#pragma once

#include "bitnet/core/memory.h"
#include "bitnet/core/thread_pool.h"
#include "inference/dense_matrix.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace bitnet {

/// An output head [rows, cols] rounded to four bits, and two bits more for chosen rows, to find those that
/// may hold the highest logits (docs/NUMERICS.md). Of each 32 columns b of row n, with t = w[n, k] / step +
/// c[k]
///   step = scale[n] m[n, b];   L[n, k] = round(t) in [0, 15];      w ~ step (L - c[k])
///   R[n, k] = floor(4 (t - L) + 2) in [0, 3];                      w ~ step (L + R / 4 - 3 / 8 - c[k])
/// and centres c[k] drawn at random from (7, 8), each column its own: the errors of a row are then
/// independent of one another, of mean zero and at most step / 2 or step / 8. L and m lie in the groups of 16
/// rows that scan_i4 reads (src/kernels/kernel_table.h), R and m once more row by row. A row with NaN,
/// infinity or a largest magnitude outside [1e-30, 1e10] has scale NaN, unless it is all zero: nothing is
/// known of its logits.
class RoundedHead {
 public:
  static constexpr int64_t kGroupRows = 16, kBlockCols = 32, kUnitBlocks = 4;

  /// Whether a head of this type and width is worth rounding: its rows are longer, and its bounds hold.
  [[nodiscard]] static bool suits(const DenseMatrix& head);
  /// Called by several threads with parts of the head that have been read.
  using DoneWith = std::function<void(std::span<const std::byte>)>;
  /// Reads the head once, on all threads.
  RoundedHead(const DenseMatrix& head, ThreadPool& pool, const DoneWith& done_with);

  /// Has `read` fill each of the parts() with what it was in a copy of the same head.
  RoundedHead(const DenseMatrix& head, const std::function<void(std::span<std::byte>)>& read);
  /// What the head's rows became, as it lies in memory, to be kept elsewhere.
  [[nodiscard]] std::array<std::span<const std::byte>, 3> parts() const;

  [[nodiscard]] int64_t units() const { return units_; }  ///< of 128 columns, of a group
  [[nodiscard]] const uint8_t* weights() const { return weights_.as<uint8_t>(); }
  /// Per row, up to whole groups.
  [[nodiscard]] const float* scale() const { return scale_.data(); }
  /// c[k], up to whole units, in units of kCentreUnit: exact as integers and as floats.
  [[nodiscard]] std::span<const int32_t> centres() const { return centres_; }
  static constexpr float kCentreUnit = 0x1p-17f;
  /// sum_k m (2 R - 3) X[k] of one row, for X up to whole units: 8 / scale times what R adds to its product
  /// with X.
  [[nodiscard]] int64_t fine_sum(int64_t row, const int16_t* x) const;
  /// Asks for the memory of a row that fine_sum() will read.
  void prefetch(int64_t row) const;
  /// sum_b m^2 weight[b] of one row.
  [[nodiscard]] double weigh(int64_t row, const float* weight) const;

  /// Of what a scan reads.
  [[nodiscard]] int64_t scan_bytes() const;
  [[nodiscard]] int64_t bytes() const { return scan_bytes() + static_cast<int64_t>(fine_.size()); }

 private:
  explicit RoundedHead(const DenseMatrix& head);
  [[nodiscard]] int64_t fine_bytes() const { return units_ * (kFineUnitBytes + kUnitBlocks); }  ///< of a row
  static constexpr int64_t kFineUnitBytes = kUnitBlocks * kBlockCols / 4;
  /// row: up to whole units.
  void store_row(std::span<const float> row, float largest, int64_t index);

  int64_t groups_, units_;
  AlignedBuffer weights_;
  AlignedBuffer fine_;  ///< of each row: 16 words a unit, whose field s of word j is column 16 s + j; then m
  std::vector<float> scale_;
  std::vector<int32_t> centres_;
  std::vector<float> centre_values_;
};

}  // namespace bitnet
