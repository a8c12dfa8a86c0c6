#pragma once

#include "bitnet/core/memory.h"
#include "kernels/kernel_table.h"

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// The hidden states of some tokens as a head scan takes them, and what the error of that representation and
/// of float arithmetic adds to the bounds of docs/NUMERICS.md:
///   kInt8  x ~ scale (254 hi + lo), |hi| and |lo| <= 127, for scan_i8
///   kQ6K   x ~ scale (128 hi + lo), of magnitude <= 16383, 0 <= lo <= 127, for scan_q6_k
class HeadActivations {
 public:
  enum class Format { kInt8, kQ6K };
  HeadActivations(Format format, int64_t cols, int64_t max_tokens);

  /// Splits token t's x [cols]. False if x holds NaN, or its largest magnitude is not in [1e-10, 1e10]: the
  /// bounds are not made for that.
  [[nodiscard]] bool split(int64_t token, std::span<const float> x);

  [[nodiscard]] float scale(int64_t token) const { return token_[static_cast<size_t>(token)].scale; }

  [[nodiscard]] const int8_t* hi() const { return hi_.as<int8_t>(); }
  [[nodiscard]] const int8_t* lo() const { return lo_.as<int8_t>(); }
  [[nodiscard]] int64_t stride() const { return stride_; }  ///< of hi and lo

  // kInt8: |error of a logit| <= error_n * norm + norm_n * slack.
  [[nodiscard]] float norm(int64_t token) const { return token_[static_cast<size_t>(token)].norm; }
  [[nodiscard]] float slack(int64_t token) const { return token_[static_cast<size_t>(token)].slack; }
  [[nodiscard]] const int32_t* hi_sums() const { return hi_sums_.data(); }
  [[nodiscard]] const int32_t* lo_sums() const { return lo_sums_.data(); }

  // kQ6K: per 16 columns, [tokens, sub_block_stride].
  [[nodiscard]] const int32_t* offsets() const { return offsets_.data(); }
  [[nodiscard]] const float* weights() const { return weights_.data(); }
  [[nodiscard]] int64_t sub_block_stride() const { return sub_blocks_; }

 private:
  struct Token {
    float scale = 0, norm = 0, slack = 0;
  };
  void split_i8(int64_t token, std::span<const float> x, float largest);
  void split_q6_k(int64_t token, std::span<const float> x, float largest);

  Format format_;
  int64_t cols_, stride_, sub_blocks_;
  AlignedBuffer hi_, lo_;
  std::vector<int32_t> hi_sums_, lo_sums_, offsets_;
  std::vector<float> weights_;
  std::vector<Token> token_;
};

}  // namespace bitnet
