#include "ops/prepare.h"

#include "bitnet/core/error.h"
#include "bitnet/ops/convert.h"
#include "ops/contraction/geometry.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet::ops {
namespace {

DType promoted(std::span<const Tensor> operands) {
  std::optional<DType> dtype;
  for (const Tensor& operand : operands) {
    // promote_types with itself also refuses packed and quantized types.
    if (operand.defined()) dtype = promote_types(dtype.value_or(operand.dtype()), operand.dtype());
  }
  return dtype.value();
}

DType floating(DType dtype) {
  return is_floating(dtype) ? dtype : DType::kF32;
}

DType sum_type(DType dtype) {
  if (is_floating(dtype)) return dtype;
  return dtype == DType::kBool || is_signed(dtype) ? DType::kI64 : DType::kU64;
}

DType computing_type(const OpCall& call) {
  const auto operands = call.operands();
  if (call.info->dtypes == DTypeRule::kEmbedding) return promoted(operands.first(1));
  if (call.info->dtypes == DTypeRule::kWhere) return promoted(operands.subspan(1));
  const DType dtype = promoted(operands);
  switch (call.info->dtypes) {
    case DTypeRule::kNumber:
      if (dtype != DType::kBool) return dtype;
      throw Error(ErrorCode::kUnsupported, fmt::format("{} of bool operands has no meaning", call.info->name),
                  "use logical_and, logical_or, logical_xor, or convert with to_dtype");
    case DTypeRule::kFloat:
      return floating(dtype);
    case DTypeRule::kLogical:
      return DType::kBool;
    default:
      return dtype;
  }
}

void check_indices(const OpCall& call) {
  if (is_integer(call.inputs[1].dtype())) return;
  throw Error(ErrorCode::kDTypeMismatch, fmt::format("{}: the indices must be integers, found {}",
                                                     call.info->name, to_string(call.inputs[1].dtype())));
}

Shape reduced_shape(const OpCall& call) {
  const auto from = call.inputs[0].shape();
  Shape shape;
  int next = 0;
  for (int axis = 0; axis < call.inputs[0].ndim(); ++axis) {
    const bool reduced = next < call.params.axis_count && call.params.axes[next] == axis;
    if (reduced) ++next;
    if (!reduced) shape.push_back(from[axis]);
    if (reduced && call.params.keepdims) shape.push_back(1);
  }
  return shape;
}

/// Operands beyond the first are as large as it (g and y), or one row for all (weights).
Shape row_shape(const OpCall& call) {
  const auto first = call.inputs[0].shape();
  if (first.empty()) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("{} works along an axis; a scalar has none", call.info->name),
                "reshape it to [1]");
  }
  for (int k = 1; k < call.input_count; ++k) {
    const Tensor& operand = call.inputs[k];
    if (!operand.defined() || std::ranges::equal(operand.shape(), first)) continue;
    if (operand.ndim() == 1 && operand.shape()[0] == first.back()) continue;
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("{}: operand {} must have the shape {} or [{}], found {}", call.info->name, k + 1,
                            to_string(first), first.back(), to_string(operand.shape())));
  }
  return {first.begin(), first.end()};
}

Shape embedding_shape(const OpCall& call) {
  const auto table = call.inputs[0].shape();
  const auto indices = call.inputs[1].shape();
  if (table.empty())
    throw Error(ErrorCode::kShapeMismatch, "embedding: the table must have rows, found a scalar");
  Shape shape(indices.begin(), indices.end());
  shape.insert(shape.end(), table.begin() + 1, table.end());
  return shape;
}

}  // namespace

DType prepare_dtypes(OpCall& call) {
  const DTypeRule rule = call.info->dtypes;
  call.dtype = computing_type(call);
  if (rule == DTypeRule::kEmbedding) {
    check_indices(call);
    call.inputs[1] = to_dtype(call.inputs[1], DType::kI64);
    return call.dtype;
  }
  for (int k = 0; k < call.input_count; ++k) {
    Tensor& operand = call.inputs[k];
    const DType wanted = rule == DTypeRule::kWhere && k == 0 ? DType::kBool : call.dtype;
    if (operand.defined() && operand.dtype() != wanted) operand = to_dtype(operand, wanted);
  }
  switch (rule) {
    case DTypeRule::kCompare:
    case DTypeRule::kTruth:
      return DType::kBool;
    case DTypeRule::kIndex:
      return DType::kI64;
    case DTypeRule::kSum:
      return sum_type(call.dtype);
    default:
      return call.dtype;
  }
}

Shape result_shape(const OpCall& call) {
  switch (call.info->family) {
    case OpFamily::kReduction:
      return reduced_shape(call);
    case OpFamily::kRow:
      return row_shape(call);
    case OpFamily::kIndexing:
      return embedding_shape(call);
    case OpFamily::kContraction:
      return call.info->op == Op::kMatmul ? matmul_shape(call.inputs[0].shape(), call.inputs[1].shape())
                                          : convolution_shape(call);
    case OpFamily::kElementwise:
      break;
  }
  const auto first = call.inputs[0].shape();
  Shape shape(first.begin(), first.end());
  for (int k = 1; k < call.input_count; ++k) {
    if (!std::ranges::equal(shape, call.inputs[k].shape()))
      shape = broadcast_shapes(shape, call.inputs[k].shape());
  }
  return shape;
}

}  // namespace bitnet::ops
