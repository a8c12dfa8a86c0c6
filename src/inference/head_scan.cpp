#include "inference/head_scan.h"

#include <cmath>

namespace bitnet {

HeadScan::HeadScan(int64_t cols, const RoundedHead* head, const kernels::KernelTable& table,
                   int64_t max_tokens)
    : head_(head), table_(table) {
  if (head != nullptr) activations_.emplace(cols, head->centres(), max_tokens);
}

void HeadScan::intervals(int64_t first_row, int64_t last_row, int64_t tokens, int64_t stride, float* lower,
                         float* upper) const {
  // In lower an approximate logit, in units of both scales; in upper the bound of its error, of the row's.
  table_.scan_i4({.weights = head_->weights(),
                  .units = head_->units(),
                  .first_group = first_row / RoundedHead::kGroupRows,
                  .last_group = (last_row + RoundedHead::kGroupRows - 1) / RoundedHead::kGroupRows,
                  .tokens = tokens,
                  .hi = activations_->hi(),
                  .lo = activations_->lo(),
                  .x_stride = activations_->stride(),
                  .offset = activations_->offsets(),
                  .weight = activations_->weights(),
                  .block_stride = activations_->blocks(),
                  .y = lower,
                  .bound = upper,
                  .y_stride = stride});
  const float* row_scale = head_->scale() + first_row;
  for (int64_t t = 0; t < tokens; ++t) {
    const float scale = activations_->scale(t);
    float* low = lower + t * stride;
    float* high = upper + t * stride;
    for (int64_t i = 0; i < last_row - first_row; ++i) {
      // The factor and the summands cover what these lines and the bound itself round, and underflow.
      const float y = low[i] * (row_scale[i] * scale);
      const float slack = high[i] * row_scale[i] * 1.0001f + std::fabs(y) * 0x1p-22f + 1e-30f;
      low[i] = y - slack;
      high[i] = y + slack;
    }
  }
}

TopRows::Interval HeadScan::refine(int64_t token, TopRows::Interval row) const {
  const double row_scale = head_->scale()[row.row];
  const double added = static_cast<double>(head_->fine_sum(row.row, activations_->whole(token))) *
                       activations_->scale(token) / 8;
  const double y = (double{row.lower} + row.upper) / 2 + row_scale * added;
  // As above; and the middle of the wider interval, whose ends were rounded.
  const double slack =
      row_scale * std::sqrt(head_->weigh(row.row, activations_->fine_weights(token))) * 1.0001 +
      (std::fabs(y) + std::fabs(double{row.lower}) + std::fabs(double{row.upper})) * 0x1p-22 + 1e-30;
  return {row.row, static_cast<float>(y - slack), static_cast<float>(y + slack)};
}

}  // namespace bitnet
