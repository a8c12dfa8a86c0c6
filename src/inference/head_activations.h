#pragma once

#include "bitnet/core/memory.h"

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// The hidden states of some tokens as scan_i4 takes them: x ~ scale (128 hi + lo), of magnitude <= 16383,
/// 0 <= lo <= 127; and what they add, block by block of 32 columns, to products with an RoundedHead and to
/// the bounds of docs/NUMERICS.md.
class HeadActivations {
 public:
  /// `centres`: of an RoundedHead, which outlives this.
  HeadActivations(int64_t cols, std::span<const int32_t> centres, int64_t max_tokens);

  /// Splits token t's x [cols]. False if x holds NaN, or its largest magnitude is not in [1e-10, 1e10]: the
  /// bounds are not made for that.
  [[nodiscard]] bool split(int64_t token, std::span<const float> x);

  [[nodiscard]] float scale(int64_t token) const { return scale_[static_cast<size_t>(token)]; }
  [[nodiscard]] const int8_t* hi() const { return hi_.as<int8_t>(); }
  [[nodiscard]] const int8_t* lo() const { return lo_.as<int8_t>(); }
  [[nodiscard]] int64_t stride() const { return stride_; }  ///< of hi and lo
  // [tokens, blocks].
  [[nodiscard]] const int32_t* offsets() const { return offsets_.data(); }
  [[nodiscard]] const float* weights() const { return weights_.data(); }
  [[nodiscard]] int64_t blocks() const { return blocks_; }
  // Of one token, for rows with two bits more.
  [[nodiscard]] const int16_t* whole(int64_t token) const { return whole_.data() + token * stride_; }  ///< X
  [[nodiscard]] const float* fine_weights(int64_t token) const {
    return fine_weights_.data() + token * blocks_;
  }

 private:
  void split_block(int64_t token, int64_t block, std::span<const float> x, double inverse);

  int64_t cols_, stride_, blocks_;
  std::span<const int32_t> centres_;
  AlignedBuffer hi_, lo_;
  std::vector<int32_t> offsets_;
  std::vector<int16_t> whole_;
  std::vector<float> weights_, fine_weights_;
  std::vector<float> scale_;
};

}  // namespace bitnet
