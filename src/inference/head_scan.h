#pragma once

#include "inference/head_activations.h"
#include "inference/rounded_head.h"
#include "inference/top_rows.h"
#include "kernels/kernel_table.h"

#include <cstdint>
#include <optional>
#include <span>

namespace bitnet {

/// Intervals that hold the logits which dense_matmul computes, from integer arithmetic over a copy of
/// the head in four bits: all of a token's with a probability of at least 1 - 2^-42 (docs/NUMERICS.md has the
/// proof).
class HeadScan {
 public:
  /// `head` may be null.
  HeadScan(int64_t cols, const RoundedHead* head, const kernels::KernelTable& table, int64_t max_tokens);

  /// Whether there is a copy to scan.
  [[nodiscard]] bool possible() const { return head_ != nullptr; }
  /// Takes token t's hidden state [cols]. False if it is not finite or out of scale.
  [[nodiscard]] bool set(int64_t token, std::span<const float> x) { return activations_->split(token, x); }
  /// lower[t * stride + n - first_row] <= logit of row n <= upper[...] for the first `tokens` tokens; NaN
  /// where nothing is known. first_row is a multiple of 16; there is room for as many rows more as make
  /// up 16. Safe from several threads.
  void intervals(int64_t first_row, int64_t last_row, int64_t tokens, int64_t stride, float* lower,
                 float* upper) const;
  /// Asks for the memory that refine() reads.
  void prefetch(int32_t row) const { head_->prefetch(row); }
  /// A narrower interval, from two bits more of each weight of the row.
  [[nodiscard]] TopRows::Interval refine(int64_t token, TopRows::Interval row) const;

 private:
  const RoundedHead* head_;
  const kernels::KernelTable& table_;
  std::optional<HeadActivations> activations_;
};

}  // namespace bitnet
