#pragma once

// What contractions read and write, without bytes: one view of every form of the operands.

#include "bitnet/ops/backend.h"

#include <array>
#include <span>

namespace bitnet::ops {

/// A batch of products y = a b: [rows, depth] by [depth, columns], by strides, all in elements. The matrices
/// of y lie one behind the other.
struct MatmulBatch {
  using Axes = std::array<int64_t, kMaxDims>;
  struct Side {
    int64_t row_stride = 0, column_stride = 0;
    Axes strides{};  ///< of the leading axes; 0 where broadcast
  };
  int64_t rows = 0, depth = 0, columns = 0;
  int64_t count = 1;  ///< product of the leading axes
  int axes = 0;
  Axes shape{};
  Side a, b;

  /// Of matrix `index` of the batch, from the tensor's first element.
  [[nodiscard]] int64_t offset(const Side& side, int64_t index) const;
};

/// The result's shape. Throws kShapeMismatch, kBroadcast.
[[nodiscard]] Shape matmul_shape(std::span<const int64_t> a, std::span<const int64_t> b);
[[nodiscard]] MatmulBatch matmul_batch(const OpCall& call);

/// A convolution over two axes; one axis is a height of 1.
struct Convolution {
  int64_t batch = 0, groups = 1, channels = 0, outputs = 0;  ///< channels and outputs of one group
  std::array<int64_t, 2> input{}, kernel{}, output{}, stride{}, padding{}, dilation{};

  [[nodiscard]] int64_t depth() const { return channels * kernel[0] * kernel[1]; }
  [[nodiscard]] int64_t positions() const { return output[0] * output[1]; }
  [[nodiscard]] int64_t input_size() const { return input[0] * input[1]; }
};

/// From the shapes of x, w and bias, whose axes from the third on are spatial. Throws kShapeMismatch,
/// kInvalidArgument.
[[nodiscard]] Convolution convolution(const OpCall& call);
[[nodiscard]] Shape convolution_shape(const OpCall& call);

/// Multiply-adds of a contraction.
[[nodiscard]] double multiply_adds(const OpCall& call);

}  // namespace bitnet::ops
