#pragma once

#include "bitnet/ops/op_table.h"
#include "bitnet/tensor/tensor.h"

#include <cstdint>
#include <initializer_list>
#include <span>

namespace bitnet {

/// Operations on tensors. What each computes is its row in op_table() (docs/TENSORS.md prints it). All of
/// them:
///
/// - broadcast like NumPy where they take several operands; a double operand has the type of the tensor
/// beside it
///   (of an integer tensor: f32 if the number is not an integer of that type);
/// - promote by promote_types; operands of another type are converted first, counted as "to_dtype";
/// - run where the context says (bitnet/ops/context.h): back end, threads, numeric checks. Results do not
/// depend
///   on the number of threads;
/// - throw kBroadcast, kShapeMismatch, kDTypeMismatch, kDeviceMismatch, kUnsupported, kOutOfRange,
///   kInvalidTensor (Error::operation and operands name the call), kOutOfMemory.
///
/// Functions that end in _ write into their first operand, whose type and shape must be the result's.

[[nodiscard]] Tensor add(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor sub(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor mul(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor div(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor mod(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor pow(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor minimum(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor maximum(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor add(const Tensor& a, double b);
[[nodiscard]] Tensor sub(const Tensor& a, double b);
[[nodiscard]] Tensor mul(const Tensor& a, double b);
[[nodiscard]] Tensor div(const Tensor& a, double b);
[[nodiscard]] Tensor mod(const Tensor& a, double b);
[[nodiscard]] Tensor pow(const Tensor& a, double b);
[[nodiscard]] Tensor minimum(const Tensor& a, double b);
[[nodiscard]] Tensor maximum(const Tensor& a, double b);

Tensor& add_(Tensor& a, const Tensor& b);
Tensor& sub_(Tensor& a, const Tensor& b);
Tensor& mul_(Tensor& a, const Tensor& b);
Tensor& div_(Tensor& a, const Tensor& b);
Tensor& add_(Tensor& a, double b);
Tensor& mul_(Tensor& a, double b);

inline Tensor operator+(const Tensor& a, const Tensor& b) {
  return add(a, b);
}
inline Tensor operator-(const Tensor& a, const Tensor& b) {
  return sub(a, b);
}
inline Tensor operator*(const Tensor& a, const Tensor& b) {
  return mul(a, b);
}
inline Tensor operator/(const Tensor& a, const Tensor& b) {
  return div(a, b);
}
inline Tensor operator%(const Tensor& a, const Tensor& b) {
  return mod(a, b);
}
inline Tensor operator+(const Tensor& a, double b) {
  return add(a, b);
}
inline Tensor operator-(const Tensor& a, double b) {
  return sub(a, b);
}
inline Tensor operator*(const Tensor& a, double b) {
  return mul(a, b);
}
inline Tensor operator/(const Tensor& a, double b) {
  return div(a, b);
}

/// Results are bool.
[[nodiscard]] Tensor equal(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor not_equal(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor less(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor less_equal(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor greater(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor greater_equal(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_and(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_or(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_xor(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_not(const Tensor& x);
[[nodiscard]] Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

/// Any other elementwise operation of one or two operands by its name in the table: unary(Op::kExp, x).
[[nodiscard]] Tensor unary(Op op, const Tensor& x);
Tensor& unary_(Op op, Tensor& x);
[[nodiscard]] Tensor binary(Op op, const Tensor& a, const Tensor& b);
Tensor& binary_(Op op, Tensor& a, const Tensor& b);

[[nodiscard]] Tensor neg(const Tensor& x);
[[nodiscard]] Tensor abs(const Tensor& x);
[[nodiscard]] Tensor square(const Tensor& x);
[[nodiscard]] Tensor sqrt(const Tensor& x);
[[nodiscard]] Tensor rsqrt(const Tensor& x);
[[nodiscard]] Tensor exp(const Tensor& x);
[[nodiscard]] Tensor log(const Tensor& x);
[[nodiscard]] Tensor sin(const Tensor& x);
[[nodiscard]] Tensor cos(const Tensor& x);
[[nodiscard]] Tensor tanh(const Tensor& x);
[[nodiscard]] Tensor sigmoid(const Tensor& x);
[[nodiscard]] Tensor relu(const Tensor& x);
[[nodiscard]] Tensor relu_squared(const Tensor& x);
[[nodiscard]] Tensor silu(const Tensor& x);
[[nodiscard]] Tensor gelu(const Tensor& x);
[[nodiscard]] Tensor gelu_tanh(const Tensor& x);

/// The gradient with respect to x of sum(g f(x)). Of sigmoid and tanh from the result y, of the others from
/// x.
[[nodiscard]] Tensor relu_backward(const Tensor& g, const Tensor& x);
[[nodiscard]] Tensor relu_squared_backward(const Tensor& g, const Tensor& x);
[[nodiscard]] Tensor silu_backward(const Tensor& g, const Tensor& x);
[[nodiscard]] Tensor gelu_backward(const Tensor& g, const Tensor& x);
[[nodiscard]] Tensor gelu_tanh_backward(const Tensor& g, const Tensor& x);
[[nodiscard]] Tensor sigmoid_backward(const Tensor& g, const Tensor& y);
[[nodiscard]] Tensor tanh_backward(const Tensor& g, const Tensor& y);

/// Axes of a reduction: all if none is named. kInvalidArgument for one named twice.
using AxisList = std::initializer_list<int>;
[[nodiscard]] Tensor reduce(Op op, const Tensor& x, std::span<const int> axes, bool keepdims = false);
[[nodiscard]] Tensor sum(const Tensor& x, AxisList axes = {}, bool keepdims = false);
[[nodiscard]] Tensor mean(const Tensor& x, AxisList axes = {}, bool keepdims = false);
[[nodiscard]] Tensor prod(const Tensor& x, AxisList axes = {}, bool keepdims = false);
/// Of no elements: kInvalidArgument, here and for argmin and argmax.
[[nodiscard]] Tensor min(const Tensor& x, AxisList axes = {}, bool keepdims = false);
[[nodiscard]] Tensor max(const Tensor& x, AxisList axes = {}, bool keepdims = false);
/// Divided by n - ddof: 0 for the whole population, 1 for a sample of it.
[[nodiscard]] Tensor var(const Tensor& x, AxisList axes = {}, double ddof = 0, bool keepdims = false);
[[nodiscard]] Tensor stddev(const Tensor& x, AxisList axes = {}, double ddof = 0, bool keepdims = false);
/// Along one axis; without one, of the flattened tensor. i64.
[[nodiscard]] Tensor argmin(const Tensor& x, AxisList axis = {}, bool keepdims = false);
[[nodiscard]] Tensor argmax(const Tensor& x, AxisList axis = {}, bool keepdims = false);
[[nodiscard]] Tensor median(const Tensor& x, AxisList axes = {}, bool keepdims = false);
/// q in [0, 1]: kInvalidArgument otherwise.
[[nodiscard]] Tensor quantile(const Tensor& x, double q, AxisList axes = {}, bool keepdims = false);
[[nodiscard]] Tensor count_nonzero(const Tensor& x, AxisList axes = {}, bool keepdims = false);
[[nodiscard]] Tensor any(const Tensor& x, AxisList axes = {}, bool keepdims = false);
[[nodiscard]] Tensor all(const Tensor& x, AxisList axes = {}, bool keepdims = false);

/// Along `axis`. Where that is not the last, the result is a view whose memory has that axis last.
[[nodiscard]] Tensor softmax(const Tensor& x, int axis = -1);
[[nodiscard]] Tensor log_softmax(const Tensor& x, int axis = -1);
/// y is the result of the forward operation.
[[nodiscard]] Tensor softmax_backward(const Tensor& g, const Tensor& y, int axis = -1);
[[nodiscard]] Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int axis = -1);

/// Over the last axes of x, whose sizes `normalized_shape` repeats (kShapeMismatch otherwise), as do weight's
/// and bias's shapes; both may be undefined.
[[nodiscard]] Tensor layer_norm(const Tensor& x, std::span<const int64_t> normalized_shape,
                                const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5);
[[nodiscard]] Tensor layer_norm(const Tensor& x, std::initializer_list<int64_t> normalized_shape,
                                const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5);
/// Over the last axis.
[[nodiscard]] Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, double eps = 1e-5);
struct RmsNormGradients {
  Tensor x, weight;  ///< weight is undefined where there was none
};
[[nodiscard]] RmsNormGradients rms_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight = {},
                                                 double eps = 1e-5);

struct RopeOptions {
  double theta = 10000;
  int64_t position = 0;      ///< of the first row
  bool interleaved = false;  ///< pairs (2i, 2i + 1) instead of (i, i + n / 2)
  bool inverse = false;      ///< turns back: the gradient
};
/// Rotary position embedding of x [..., rows, n], n even (kShapeMismatch): row t of each matrix has the
/// position options.position + t.   Source: arXiv:2104.09864.
[[nodiscard]] Tensor rope(const Tensor& x, const RopeOptions& options = {});

/// Rows of table [V, ...] by indices of any shape and integer type. kOutOfRange for an index beyond V.
[[nodiscard]] Tensor embedding(const Tensor& table, const Tensor& indices);

}  // namespace bitnet
