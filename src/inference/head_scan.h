#pragma once

#include "inference/head_activations.h"
#include "inference/int8_head.h"
#include "inference/q6_head.h"
#include "kernels/kernel_table.h"

#include <cstdint>
#include <span>

namespace bitnet {

/// Intervals that surely hold the logits which dense_matmul computes, from integer arithmetic over a
/// copy of the head (docs/NUMERICS.md has the proof).
class HeadScan {
 public:
  /// At most one of `int8_head` and `q6_head` is not null.
  HeadScan(int64_t cols, const Int8Head* int8_head, const Q6Head* q6_head, const kernels::KernelTable& table,
           int64_t max_tokens);

  /// Whether there is a copy to scan.
  [[nodiscard]] bool possible() const { return int8_head_ != nullptr || q6_head_ != nullptr; }
  /// Takes token t's hidden state [cols]. False if it is not finite or out of scale.
  [[nodiscard]] bool set(int64_t token, std::span<const float> x) { return activations_.split(token, x); }
  /// lower[t * stride + n - first_row] <= logit of row n <= upper[...] for the first `tokens` tokens; NaN
  /// where nothing is known. first_row is a multiple of 16; there is room for as many rows more as make
  /// up 16. Safe from several threads.
  void intervals(int64_t first_row, int64_t last_row, int64_t tokens, int64_t stride, float* lower,
                 float* upper) const;

 private:
  void scan_q6_k(int64_t first_row, int64_t last_row, int64_t tokens, int64_t stride, float* y,
                 float* bound) const;
  void scan_i8(int64_t first_row, int64_t last_row, int64_t tokens, int64_t stride, float* y,
               float* bound) const;

  int64_t cols_;
  const Int8Head* int8_head_;
  const Q6Head* q6_head_;
  const kernels::KernelTable& table_;
  HeadActivations activations_;
};

}  // namespace bitnet
