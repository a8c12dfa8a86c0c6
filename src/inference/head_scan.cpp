#include "inference/head_scan.h"

#include <cmath>

namespace bitnet {

HeadScan::HeadScan(int64_t cols, const Int8Head* int8_head, const Q6Head* q6_head,
                   const kernels::KernelTable& table, int64_t max_tokens)
    : cols_(cols),
      int8_head_(int8_head),
      q6_head_(q6_head),
      table_(table),
      activations_(int8_head != nullptr ? HeadActivations::Format::kInt8 : HeadActivations::Format::kQ6K,
                   cols, max_tokens) {}

void HeadScan::intervals(int64_t first_row, int64_t last_row, int64_t tokens, int64_t stride, float* lower,
                         float* upper) const {
  // An approximate logit in lower and the bound of its error in upper.
  if (int8_head_ != nullptr) {
    scan_i8(first_row, last_row, tokens, stride, lower, upper);
  } else {
    scan_q6_k(first_row, last_row, tokens, stride, lower, upper);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    float* low = lower + t * stride;
    float* high = upper + t * stride;
    for (int64_t i = 0; i < last_row - first_row; ++i) {
      // The factor and the summands cover what these lines and the bound itself round, and underflow.
      const float y = low[i], slack = high[i] * 1.0001f + std::fabs(y) * 0x1p-22f + 1e-30f;
      low[i] = y - slack;
      high[i] = y + slack;
    }
  }
}

void HeadScan::scan_q6_k(int64_t first_row, int64_t last_row, int64_t tokens, int64_t stride, float* y,
                         float* bound) const {
  table_.scan_q6_k({.weights = q6_head_->weights(),
                    .group_bytes = q6_head_->group_bytes(),
                    .cols = cols_,
                    .first_group = first_row / Q6Head::kGroupRows,
                    .last_group = (last_row + Q6Head::kGroupRows - 1) / Q6Head::kGroupRows,
                    .tokens = tokens,
                    .hi = activations_.hi(),
                    .lo = activations_.lo(),
                    .x_stride = activations_.stride(),
                    .offset = activations_.offsets(),
                    .weight = activations_.weights(),
                    .sub_block_stride = activations_.sub_block_stride(),
                    .y = y,
                    .bound = bound,
                    .y_stride = stride});
  for (int64_t t = 0; t < tokens; ++t) {
    const float scale = activations_.scale(t);
    for (int64_t i = 0; i < last_row - first_row; ++i) y[t * stride + i] *= scale;
  }
}

void HeadScan::scan_i8(int64_t first_row, int64_t last_row, int64_t tokens, int64_t stride, float* y,
                       float* bound) const {
  table_.scan_i8({.weights = int8_head_->weights(),
                  .padded_cols = int8_head_->padded_cols(),
                  .first_group = first_row / Int8Head::kGroupRows,
                  .last_group = (last_row + Int8Head::kGroupRows - 1) / Int8Head::kGroupRows,
                  .tokens = tokens,
                  .hi = activations_.hi(),
                  .lo = activations_.lo(),
                  .q_stride = activations_.stride(),
                  .hi_sum = activations_.hi_sums(),
                  .lo_sum = activations_.lo_sums(),
                  .y = y,
                  .y_stride = stride});
  const float* row_scale = int8_head_->scale() + first_row;
  const float* error = int8_head_->error() + first_row;
  const float* norm = int8_head_->norm() + first_row;
  for (int64_t t = 0; t < tokens; ++t) {
    const float scale = activations_.scale(t), x_norm = activations_.norm(t), slack = activations_.slack(t);
    for (int64_t i = 0; i < last_row - first_row; ++i) {
      y[t * stride + i] *= row_scale[i] * scale;
      bound[t * stride + i] = error[i] * x_norm + norm[i] * slack;
    }
  }
}

}  // namespace bitnet
