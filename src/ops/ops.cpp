// Elementwise operations: one line to the dispatcher each.
#include "bitnet/ops/ops.h"

#include "bitnet/core/error.h"
#include "bitnet/ops/devices.h"
#include "bitnet/tensor/create.h"
#include "ops/dispatch.h"

#include <cmath>

#include <fmt/format.h>

namespace bitnet {
namespace {

using ops::dispatch;
using ops::dispatch_into;

/// A number beside a tensor has its type, unless that cannot hold it.
Tensor number_beside(const Tensor& a, double number) {
  const DType dtype = a.defined() && is_plain(a.dtype()) ? a.dtype() : DType::kF32;
  if (is_floating(dtype)) return to_device(scalar(number, dtype), a.device());
  const auto [lowest, highest] = value_range(dtype);
  const bool fits =
      number == std::nearbyint(number) && number >= lowest && number <= highest && dtype != DType::kBool;
  return scalar(number, fits ? dtype : DType::kF32);
}

void require_elementwise(Op op, int operands) {
  const OpInfo& info = op_info(op);
  if (info.family == OpFamily::kElementwise && info.operands == operands) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} is not an elementwise operation of {} operands", info.name, operands),
              "call the function of that name");
}

}  // namespace

Tensor unary(Op op, const Tensor& x) {
  require_elementwise(op, 1);
  return dispatch(op, {&x});
}
Tensor& unary_(Op op, Tensor& x) {
  require_elementwise(op, 1);
  dispatch_into(op, {&x}, x);
  return x;
}
Tensor binary(Op op, const Tensor& a, const Tensor& b) {
  require_elementwise(op, 2);
  return dispatch(op, {&a, &b});
}
Tensor& binary_(Op op, Tensor& a, const Tensor& b) {
  require_elementwise(op, 2);
  dispatch_into(op, {&a, &b}, a);
  return a;
}

Tensor add(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kAdd, {&a, &b});
}
Tensor sub(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kSub, {&a, &b});
}
Tensor mul(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kMul, {&a, &b});
}
Tensor div(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kDiv, {&a, &b});
}
Tensor mod(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kMod, {&a, &b});
}
Tensor pow(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kPow, {&a, &b});
}
Tensor minimum(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kMinimum, {&a, &b});
}
Tensor maximum(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kMaximum, {&a, &b});
}

Tensor add(const Tensor& a, double b) {
  return add(a, number_beside(a, b));
}
Tensor sub(const Tensor& a, double b) {
  return sub(a, number_beside(a, b));
}
Tensor mul(const Tensor& a, double b) {
  return mul(a, number_beside(a, b));
}
Tensor div(const Tensor& a, double b) {
  return div(a, number_beside(a, b));
}
Tensor mod(const Tensor& a, double b) {
  return mod(a, number_beside(a, b));
}
Tensor pow(const Tensor& a, double b) {
  return pow(a, number_beside(a, b));
}
Tensor minimum(const Tensor& a, double b) {
  return minimum(a, number_beside(a, b));
}
Tensor maximum(const Tensor& a, double b) {
  return maximum(a, number_beside(a, b));
}

Tensor& add_(Tensor& a, const Tensor& b) {
  return binary_(Op::kAdd, a, b);
}
Tensor& sub_(Tensor& a, const Tensor& b) {
  return binary_(Op::kSub, a, b);
}
Tensor& mul_(Tensor& a, const Tensor& b) {
  return binary_(Op::kMul, a, b);
}
Tensor& div_(Tensor& a, const Tensor& b) {
  return binary_(Op::kDiv, a, b);
}
Tensor& add_(Tensor& a, double b) {
  return add_(a, number_beside(a, b));
}
Tensor& mul_(Tensor& a, double b) {
  return mul_(a, number_beside(a, b));
}

Tensor equal(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kEqual, {&a, &b});
}
Tensor not_equal(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kNotEqual, {&a, &b});
}
Tensor less(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kLess, {&a, &b});
}
Tensor less_equal(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kLessEqual, {&a, &b});
}
Tensor greater(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kGreater, {&a, &b});
}
Tensor greater_equal(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kGreaterEqual, {&a, &b});
}
Tensor logical_and(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kLogicalAnd, {&a, &b});
}
Tensor logical_or(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kLogicalOr, {&a, &b});
}
Tensor logical_xor(const Tensor& a, const Tensor& b) {
  return dispatch(Op::kLogicalXor, {&a, &b});
}
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return dispatch(Op::kWhere, {&condition, &a, &b});
}

Tensor logical_not(const Tensor& x) {
  return dispatch(Op::kLogicalNot, {&x});
}
Tensor neg(const Tensor& x) {
  return dispatch(Op::kNeg, {&x});
}
Tensor abs(const Tensor& x) {
  return dispatch(Op::kAbs, {&x});
}
Tensor square(const Tensor& x) {
  return dispatch(Op::kSquare, {&x});
}
Tensor sqrt(const Tensor& x) {
  return dispatch(Op::kSqrt, {&x});
}
Tensor rsqrt(const Tensor& x) {
  return dispatch(Op::kRsqrt, {&x});
}
Tensor exp(const Tensor& x) {
  return dispatch(Op::kExp, {&x});
}
Tensor log(const Tensor& x) {
  return dispatch(Op::kLog, {&x});
}
Tensor sin(const Tensor& x) {
  return dispatch(Op::kSin, {&x});
}
Tensor cos(const Tensor& x) {
  return dispatch(Op::kCos, {&x});
}
Tensor tanh(const Tensor& x) {
  return dispatch(Op::kTanh, {&x});
}
Tensor sigmoid(const Tensor& x) {
  return dispatch(Op::kSigmoid, {&x});
}
Tensor relu(const Tensor& x) {
  return dispatch(Op::kRelu, {&x});
}
Tensor relu_squared(const Tensor& x) {
  return dispatch(Op::kReluSquared, {&x});
}
Tensor silu(const Tensor& x) {
  return dispatch(Op::kSilu, {&x});
}
Tensor gelu(const Tensor& x) {
  return dispatch(Op::kGelu, {&x});
}
Tensor gelu_tanh(const Tensor& x) {
  return dispatch(Op::kGeluTanh, {&x});
}

Tensor relu_backward(const Tensor& g, const Tensor& x) {
  return dispatch(Op::kReluBackward, {&g, &x});
}
Tensor relu_squared_backward(const Tensor& g, const Tensor& x) {
  return dispatch(Op::kReluSquaredBackward, {&g, &x});
}
Tensor silu_backward(const Tensor& g, const Tensor& x) {
  return dispatch(Op::kSiluBackward, {&g, &x});
}
Tensor gelu_backward(const Tensor& g, const Tensor& x) {
  return dispatch(Op::kGeluBackward, {&g, &x});
}
Tensor gelu_tanh_backward(const Tensor& g, const Tensor& x) {
  return dispatch(Op::kGeluTanhBackward, {&g, &x});
}
Tensor sigmoid_backward(const Tensor& g, const Tensor& y) {
  return dispatch(Op::kSigmoidBackward, {&g, &y});
}
Tensor tanh_backward(const Tensor& g, const Tensor& y) {
  return dispatch(Op::kTanhBackward, {&g, &y});
}

}  // namespace bitnet
