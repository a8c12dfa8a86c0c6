#pragma once

#include "bitnet/tensor/tensor.h"

#include <array>
#include <cstdint>
#include <optional>

namespace bitnet {

/// Sums of products. As all operations (bitnet/ops/ops.h) they promote, run where the context says and throw;
/// results do not depend on the number of threads. f32 and f64 through BLAS, whose sum of n products is
/// within n eps sum |a b|; f16 and bf16 in f32, rounded once; integers exactly, modulo 2^bits.

/// y[.., i, j] = sum over k of a[.., i, k] b[.., k, j] by NumPy's rules: leading axes broadcast; a vector a
/// is a row, a vector b a column, and the axis added for it goes away again. Transposed operands are not
/// copied. With `dtype` both operands are converted to it first: i8 by i8 in i32 is matmul(a, b,
/// DType::kI32). Throws kShapeMismatch for scalars or a's last axis unlike b's last but one, kBroadcast.
[[nodiscard]] Tensor matmul(const Tensor& a, const Tensor& b, std::optional<DType> dtype = {});

/// Of two vectors of one length: the sum of their products, a scalar. kShapeMismatch for others.
[[nodiscard]] Tensor dot(const Tensor& a, const Tensor& b);

/// y[i, j] = a[i] b[j] of the flattened operands.
[[nodiscard]] Tensor outer(const Tensor& a, const Tensor& b);

struct Conv1dOptions {
  int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
};
/// y[n, o, t] = bias[o] + sum over c, k of x[n, g C + c, stride t + dilation k - padding] w[o, c, k], where C
/// is the number of channels of a group, g the group of o, and x is 0 outside (cross-correlation, as in every
/// framework). x [N, groups C, T], w [O, C, K], bias [O] or undefined.
/// Throws kShapeMismatch, kInvalidArgument for options below their least, or a kernel that is larger than the
/// padded input.
[[nodiscard]] Tensor conv1d(const Tensor& x, const Tensor& w, const Tensor& bias = {},
                            const Conv1dOptions& options = {});

/// Height, then width.
struct Conv2dOptions {
  std::array<int64_t, 2> stride{1, 1}, padding{0, 0}, dilation{1, 1};
  int64_t groups = 1;
};
/// The same over two axes: x [N, groups C, H, W], w [O, C, KH, KW].
[[nodiscard]] Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias = {},
                            const Conv2dOptions& options = {});

}  // namespace bitnet
