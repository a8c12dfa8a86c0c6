#include "bitnet/ops/op_table.h"

#include <algorithm>
#include <array>

namespace bitnet {
namespace {

using enum OperationType;
using Rule = DTypeRule;
using Family = OpFamily;

// a, b, c are the operands, g is the gradient of the result y. In the NumPy column floats are float64 and
// integers of their own type; axis, keepdims, ddof, q, eps stand for the parameters, erf for its vectorized
// self.
constexpr OpInfo kTable[] = {
    {Op::kAdd, "add", kElementWise, Family::kElementwise, 2, Rule::kNumber, "a + b", "a + b", "g, g"},
    {Op::kSub, "sub", kElementWise, Family::kElementwise, 2, Rule::kNumber, "a - b", "a - b", "g, -g"},
    {Op::kMul, "mul", kElementWise, Family::kElementwise, 2, Rule::kNumber, "a * b", "a * b", "g b, g a"},
    {Op::kDiv, "div", kElementWise, Family::kElementwise, 2, Rule::kFloat, "a / b; of integers in f32",
     "a / b", "g / b, -g y / b"},
    {Op::kMod, "mod", kElementWise, Family::kElementwise, 2, Rule::kNumber,
     "a - floor(a / b) b: the divisor's sign; of integers a mod 0 = 0", "np.mod(a, b)", ""},
    {Op::kPow, "pow", kElementWise, Family::kElementwise, 2, Rule::kNumber,
     "a^b; of integers modulo 2^bits, and a^-b is 0 unless |a| = 1",
     "np.power(a, np.abs(b)) if integer else np.power(a, b)", "g b a^(b-1), g y ln a"},
    {Op::kMinimum, "minimum", kElementWise, Family::kElementwise, 2, Rule::kNumber,
     "min(a, b); NaN if one is", "np.minimum(a, b)", "g where a <= b, g elsewhere"},
    {Op::kMaximum, "maximum", kElementWise, Family::kElementwise, 2, Rule::kNumber,
     "max(a, b); NaN if one is", "np.maximum(a, b)", "g where a >= b, g elsewhere"},
    {Op::kEqual, "equal", kElementWise, Family::kElementwise, 2, Rule::kCompare, "a = b", "a == b", ""},
    {Op::kNotEqual, "not_equal", kElementWise, Family::kElementwise, 2, Rule::kCompare, "a != b", "a != b",
     ""},
    {Op::kLess, "less", kElementWise, Family::kElementwise, 2, Rule::kCompare, "a < b", "a < b", ""},
    {Op::kLessEqual, "less_equal", kElementWise, Family::kElementwise, 2, Rule::kCompare, "a <= b", "a <= b",
     ""},
    {Op::kGreater, "greater", kElementWise, Family::kElementwise, 2, Rule::kCompare, "a > b", "a > b", ""},
    {Op::kGreaterEqual, "greater_equal", kElementWise, Family::kElementwise, 2, Rule::kCompare, "a >= b",
     "a >= b", ""},
    {Op::kLogicalAnd, "logical_and", kElementWise, Family::kElementwise, 2, Rule::kLogical, "a and b",
     "np.logical_and(a, b)", ""},
    {Op::kLogicalOr, "logical_or", kElementWise, Family::kElementwise, 2, Rule::kLogical, "a or b",
     "np.logical_or(a, b)", ""},
    {Op::kLogicalXor, "logical_xor", kElementWise, Family::kElementwise, 2, Rule::kLogical, "one of a, b",
     "np.logical_xor(a, b)", ""},
    {Op::kWhere, "where", kElementWise, Family::kElementwise, 3, Rule::kWhere, "b where a, c elsewhere",
     "np.where(a, b, c)", "none, g where a, g elsewhere"},
    {Op::kLogicalNot, "logical_not", kElementWise, Family::kElementwise, 1, Rule::kLogical, "not a",
     "np.logical_not(a)", ""},
    {Op::kNeg, "neg", kElementWise, Family::kElementwise, 1, Rule::kNumber, "-a", "-a", "-g"},
    {Op::kAbs, "abs", kElementWise, Family::kElementwise, 1, Rule::kNumber,
     "|a|; wraps at the lowest integer", "np.abs(a)", "g sign(a)"},
    {Op::kSign, "sign", kElementWise, Family::kElementwise, 1, Rule::kNumber, "-1, 0 or 1; NaN of NaN",
     "np.sign(a)", "0"},
    {Op::kSquare, "square", kElementWise, Family::kElementwise, 1, Rule::kNumber, "a^2", "a * a", "2 g a"},
    {Op::kSqrt, "sqrt", kElementWise, Family::kElementwise, 1, Rule::kFloat, "a^(1/2)", "np.sqrt(a)",
     "g / (2 y)"},
    {Op::kRsqrt, "rsqrt", kElementWise, Family::kElementwise, 1, Rule::kFloat, "a^(-1/2)", "1 / np.sqrt(a)",
     "-g y^3 / 2"},
    {Op::kReciprocal, "reciprocal", kElementWise, Family::kElementwise, 1, Rule::kFloat, "1 / a", "1 / a",
     "-g y^2"},
    {Op::kExp, "exp", kElementWise, Family::kElementwise, 1, Rule::kFloat, "e^a", "np.exp(a)", "g y"},
    {Op::kLog, "log", kElementWise, Family::kElementwise, 1, Rule::kFloat, "ln a", "np.log(a)", "g / a"},
    {Op::kSin, "sin", kElementWise, Family::kElementwise, 1, Rule::kFloat, "sin a", "np.sin(a)", "g cos(a)"},
    {Op::kCos, "cos", kElementWise, Family::kElementwise, 1, Rule::kFloat, "cos a", "np.cos(a)", "-g sin(a)"},
    {Op::kErf, "erf", kElementWise, Family::kElementwise, 1, Rule::kFloat, "erf(a)", "erf(a)",
     "2 g e^(-a^2) / sqrt(pi)"},
    {Op::kFloor, "floor", kElementWise, Family::kElementwise, 1, Rule::kFloat, "largest integer <= a",
     "np.floor(a)", "0"},
    {Op::kCeil, "ceil", kElementWise, Family::kElementwise, 1, Rule::kFloat, "least integer >= a",
     "np.ceil(a)", "0"},
    {Op::kRound, "round", kElementWise, Family::kElementwise, 1, Rule::kFloat,
     "nearest integer, halves to even", "np.rint(a)", "0"},
    {Op::kRelu, "relu", kActivation, Family::kElementwise, 1, Rule::kNumber, "max(a, 0)", "np.maximum(a, 0)",
     "relu_backward(g, a)"},
    {Op::kReluSquared, "relu_squared", kActivation, Family::kElementwise, 1, Rule::kNumber, "max(a, 0)^2",
     "np.maximum(a, 0) * np.maximum(a, 0)", "relu_squared_backward(g, a)"},
    {Op::kSigmoid, "sigmoid", kActivation, Family::kElementwise, 1, Rule::kFloat, "1 / (1 + e^-a)",
     "1 / (1 + np.exp(-a))", "sigmoid_backward(g, y)"},
    {Op::kTanh, "tanh", kActivation, Family::kElementwise, 1, Rule::kFloat, "tanh a", "np.tanh(a)",
     "tanh_backward(g, y)"},
    {Op::kSilu, "silu", kActivation, Family::kElementwise, 1, Rule::kFloat, "a / (1 + e^-a)",
     "a / (1 + np.exp(-a))", "silu_backward(g, a)"},
    {Op::kGelu, "gelu", kActivation, Family::kElementwise, 1, Rule::kFloat, "a (1 + erf(a / sqrt 2)) / 2",
     "a * erfc(-a / np.sqrt(2)) / 2", "gelu_backward(g, a)"},
    {Op::kGeluTanh, "gelu_tanh", kActivation, Family::kElementwise, 1, Rule::kFloat,
     "a / (1 + e^-2u), u = sqrt(2 / pi) (a + 0.044715 a^3)",
     "a / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))", "gelu_tanh_backward(g, a)"},
    {Op::kReluBackward, "relu_backward", kActivation, Family::kElementwise, 2, Rule::kFloat,
     "a where b > 0, 0 elsewhere", "np.where(b > 0, a, 0)", ""},
    {Op::kReluSquaredBackward, "relu_squared_backward", kActivation, Family::kElementwise, 2, Rule::kFloat,
     "2 a max(b, 0)", "2 * a * np.maximum(b, 0)", ""},
    {Op::kSigmoidBackward, "sigmoid_backward", kActivation, Family::kElementwise, 2, Rule::kFloat,
     "a b (1 - b), b the sigmoid's result", "a * b * (1 - b)", ""},
    {Op::kTanhBackward, "tanh_backward", kActivation, Family::kElementwise, 2, Rule::kFloat,
     "a (1 - b^2), b the tanh's result", "a * (1 - b * b)", ""},
    {Op::kSiluBackward, "silu_backward", kActivation, Family::kElementwise, 2, Rule::kFloat,
     "a s (1 + b (1 - s)), s = sigmoid(b)", "a / (1 + np.exp(-b)) * (1 + b / (1 + np.exp(b)))", ""},
    {Op::kGeluBackward, "gelu_backward", kActivation, Family::kElementwise, 2, Rule::kFloat,
     "a (Phi(b) + b phi(b)), Phi and phi of the standard normal",
     "a * (erfc(-b / np.sqrt(2)) / 2 + b * np.exp(-b * b / 2) / np.sqrt(2 * np.pi))", ""},
    {Op::kGeluTanhBackward, "gelu_tanh_backward", kActivation, Family::kElementwise, 2, Rule::kFloat,
     "a (s + 2 b s (1 - s) u'), s = 1 / (1 + e^-2u), u of gelu_tanh at b", "a * gelu_tanh_slope(b)", ""},
    {Op::kSum, "sum", kReduction, Family::kReduction, 1, Rule::kSum, "sum of a",
     "np.sum(a, axis, keepdims=keepdims)", "g, expanded"},
    {Op::kMean, "mean", kReduction, Family::kReduction, 1, Rule::kFloat, "sum of a / n; NaN of nothing",
     "np.mean(a, axis, keepdims=keepdims)", "g / n, expanded"},
    {Op::kProd, "prod", kReduction, Family::kReduction, 1, Rule::kSum, "product of a",
     "np.prod(a, axis, keepdims=keepdims)", "g y / a"},
    {Op::kMin, "min", kReduction, Family::kReduction, 1, Rule::kAny, "least; NaN if one is",
     "np.min(a, axis, keepdims=keepdims)", "g where a = y"},
    {Op::kMax, "max", kReduction, Family::kReduction, 1, Rule::kAny, "largest; NaN if one is",
     "np.max(a, axis, keepdims=keepdims)", "g where a = y"},
    {Op::kVar, "var", kReduction, Family::kReduction, 1, Rule::kFloat,
     "sum of (a - mean)^2 / max(n - ddof, 0)", "np.var(a, axis, ddof=ddof, keepdims=keepdims)",
     "2 g (a - mean) / (n - ddof)"},
    {Op::kStd, "std", kReduction, Family::kReduction, 1, Rule::kFloat, "sqrt(var)",
     "np.std(a, axis, ddof=ddof, keepdims=keepdims)", "g (a - mean) / ((n - ddof) y)"},
    {Op::kArgmin, "argmin", kReduction, Family::kReduction, 1, Rule::kIndex,
     "index of the first least, or of the first NaN", "np.argmin(a, axis, keepdims=keepdims)", ""},
    {Op::kArgmax, "argmax", kReduction, Family::kReduction, 1, Rule::kIndex,
     "index of the first largest, or of the first NaN", "np.argmax(a, axis, keepdims=keepdims)", ""},
    {Op::kMedian, "median", kReduction, Family::kReduction, 1, Rule::kFloat, "quantile at 1/2",
     "np.median(a, axis, keepdims=keepdims)", ""},
    {Op::kQuantile, "quantile", kReduction, Family::kReduction, 1, Rule::kFloat,
     "value at q (n - 1) of the sorted a, between two linearly; NaN if one is",
     "np.quantile(a, q, axis, keepdims=keepdims)", ""},
    {Op::kCountNonzero, "count_nonzero", kReduction, Family::kReduction, 1, Rule::kIndex, "how many a != 0",
     "np.count_nonzero(a, axis, keepdims=keepdims)", ""},
    {Op::kAny, "any", kReduction, Family::kReduction, 1, Rule::kTruth, "one a != 0",
     "np.any(a, axis, keepdims=keepdims)", ""},
    {Op::kAll, "all", kReduction, Family::kReduction, 1, Rule::kTruth, "every a != 0",
     "np.all(a, axis, keepdims=keepdims)", ""},
    {Op::kSoftmax, "softmax", kActivation, Family::kRow, 1, Rule::kFloat, "e^(a - max) / sum e^(a - max)",
     "softmax(a)", "softmax_backward(g, y)"},
    {Op::kLogSoftmax, "log_softmax", kActivation, Family::kRow, 1, Rule::kFloat,
     "a - max - ln sum e^(a - max)", "np.log(softmax(a))", "log_softmax_backward(g, y)"},
    {Op::kSoftmaxBackward, "softmax_backward", kActivation, Family::kRow, 2, Rule::kFloat,
     "b (a - sum a b), b the softmax's result", "b * (a - (a * b).sum(-1, keepdims=True))", ""},
    {Op::kLogSoftmaxBackward, "log_softmax_backward", kActivation, Family::kRow, 2, Rule::kFloat,
     "a - e^b sum a, b the log_softmax's result", "a - np.exp(b) * a.sum(-1, keepdims=True)", ""},
    {Op::kLayerNorm, "layer_norm", kNormalization, Family::kRow, 3, Rule::kFloat,
     "(a - mean) / sqrt(var + eps) b + c; b, c may be left out",
     "(a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + eps) * b + c", ""},
    {Op::kRmsNorm, "rms_norm", kNormalization, Family::kRow, 2, Rule::kFloat,
     "a / sqrt(mean a^2 + eps) b; b may be left out",
     "a / np.sqrt((a * a).mean(-1, keepdims=True) + eps) * b", "rms_norm_backward(g, a, b)"},
    {Op::kRmsNormBackward, "rms_norm_backward", kNormalization, Family::kRow, 3, Rule::kFloat,
     "r (a c - b r^2 mean(a c b)), r = 1 / sqrt(mean b^2 + eps), c the weight: of a only",
     "rms_norm_slope(a, b, c, eps)", ""},
    {Op::kRope, "rope", kElementWise, Family::kRow, 1, Rule::kFloat,
     "pairs (a_i, a_j) turned by p theta^(-2i/n), p the row's position; j = i + n/2, or i + 1",
     "rope(a, position, theta, interleaved)", "rope of g by -p"},
    {Op::kEmbedding, "embedding", kIndexing, Family::kIndexing, 2, Rule::kEmbedding, "rows b of a", "a[b]",
     "g added into rows b"},
    {Op::kMatmul, "matmul", kMatMul, Family::kContraction, 2, Rule::kNumber,
     "sum over k of a[.., i, k] b[.., k, j]; leading axes broadcast, vectors are rows and columns",
     "np.matmul(a, b)", "g b^T, a^T g"},
    {Op::kConv1d, "conv1d", kConvolution, Family::kContraction, 3, Rule::kNumber,
     "sum over c, k of a[n, c, stride t + dilation k - padding] b[o, c, k] + c[o]; c may be left out",
     "conv(a, b, c, groups, stride, padding, dilation)", ""},
    {Op::kConv2d, "conv2d", kConvolution, Family::kContraction, 3, Rule::kNumber, "conv1d over two axes",
     "conv(a, b, c, groups, stride, padding, dilation)", ""},
};

static_assert(
    [] {
      for (size_t i = 0; i < std::size(kTable); ++i) {
        if (static_cast<size_t>(kTable[i].op) != i) return false;
      }
      return true;
    }(),
    "the rows follow the enumeration");

}  // namespace

std::string_view to_string(OperationType type) {
  constexpr std::array<std::string_view, 9> names = {"MatMul",     "ElementWise",   "Reduction",
                                                     "Activation", "Normalization", "Convolution",
                                                     "Conversion", "LinearAlgebra", "Indexing"};
  return names.at(static_cast<size_t>(type));
}

std::span<const OpInfo> op_table() {
  return kTable;
}

const OpInfo& op_info(Op op) {
  return kTable[static_cast<size_t>(op)];
}

std::optional<Op> op_from_name(std::string_view name) {
  const auto* row = std::find_if(std::begin(kTable), std::end(kTable),
                                 [&](const OpInfo& info) { return info.name == name; });
  if (row == std::end(kTable)) return std::nullopt;
  return row->op;
}

}  // namespace bitnet
