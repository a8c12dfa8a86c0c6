#pragma once

#include "bitnet/core/dtype.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace bitnet {

/// Every operation of tensors, in the order of op_table().
enum class Op : uint8_t {
  // Of two operands, element by element.
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMod,
  kPow,
  kMinimum,
  kMaximum,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kLogicalAnd,
  kLogicalOr,
  kLogicalXor,
  kWhere,
  // Of one operand, element by element.
  kLogicalNot,
  kNeg,
  kAbs,
  kSign,
  kSquare,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kExp,
  kLog,
  kSin,
  kCos,
  kErf,
  kFloor,
  kCeil,
  kRound,
  kRelu,
  kReluSquared,
  kSigmoid,
  kTanh,
  kSilu,
  kGelu,
  kGeluTanh,
  // Gradients of activations.
  kReluBackward,
  kReluSquaredBackward,
  kSigmoidBackward,
  kTanhBackward,
  kSiluBackward,
  kGeluBackward,
  kGeluTanhBackward,
  // Over axes.
  kSum,
  kMean,
  kProd,
  kMin,
  kMax,
  kVar,
  kStd,
  kArgmin,
  kArgmax,
  kMedian,
  kQuantile,
  kCountNonzero,
  kAny,
  kAll,
  // Along rows.
  kSoftmax,
  kLogSoftmax,
  kSoftmaxBackward,
  kLogSoftmaxBackward,
  kLayerNorm,
  kRmsNorm,
  kRmsNormBackward,
  kRope,
  // By index.
  kEmbedding,
  // Sums of products.
  kMatmul,
  kConv1d,
  kConv2d,
};

/// What kind of work an operation is; printable, e.g. "MatMul".
enum class OperationType : uint8_t {
  kMatMul,
  kElementWise,
  kReduction,
  kActivation,
  kNormalization,
  kConvolution,
  kConversion,
  kLinearAlgebra,
  kIndexing,
};
[[nodiscard]] std::string_view to_string(OperationType type);

/// Which loop computes it; the dispatcher checks and allocates by it.
enum class OpFamily : uint8_t {
  kElementwise,  ///< operands broadcast; result of their common shape
  kReduction,    ///< one operand, some axes
  kRow,          ///< along the last axis of the first operand, rows independent; others follow the row's rule
  kIndexing,
  kContraction,  ///< shapes by the operation (src/ops/contraction/geometry.h)
};

/// How the type that an operation computes in, and its result's, follow from the operands'. "Promoted" is
/// promote_types of all.
enum class DTypeRule : uint8_t {
  kNumber,    ///< promoted, not bool; result the same
  kAny,       ///< promoted; result the same
  kFloat,     ///< promoted, integers and bool become f32; result the same
  kCompare,   ///< promoted; result bool
  kLogical,   ///< operands become bool (x != 0); result bool
  kWhere,     ///< the first is bool, the others promoted; result theirs
  kSum,       ///< floats stay; bool and signed become i64, unsigned u64
  kIndex,     ///< result i64
  kTruth,     ///< any operand; result bool
  kEmbedding  ///< result of the first operand's type; the second holds integers
};

/// One row: all there is to say about an operation outside its kernels.
struct OpInfo {
  Op op;
  std::string_view name;  ///< "add"
  OperationType type;
  OpFamily family;
  int operands;
  DTypeRule dtypes;
  std::string_view formula;   ///< y from a, b, c
  std::string_view numpy;     ///< the same for the property test; empty where NumPy has no words for it
  std::string_view backward;  ///< gradients from g, a, b, c, y; empty where there is none
};

[[nodiscard]] std::span<const OpInfo> op_table();
[[nodiscard]] const OpInfo& op_info(Op op);
[[nodiscard]] std::optional<Op> op_from_name(std::string_view name);

}  // namespace bitnet
