#include "ops/numerics.h"

#include "bitnet/core/error.h"
#include "bitnet/ops/convert.h"
#include "bitnet/ops/devices.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"
#include "tensor/element.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace bitnet::ops {
namespace {

[[noreturn]] void throw_numerical(const OpCall& call) {
  throw Error(
      ErrorCode::kNumerical,
      fmt::format("{} made a NaN or an infinity in {}", call.info->name, to_string(call.output.dtype())),
      "look at the operands' ranges, compute in a wider type, or set check_numerics to kNone");
}

}  // namespace

bool has_non_finite(const Tensor& tensor) {
  if (!tensor.defined() || !is_floating(tensor.dtype()) || tensor.numel() == 0) return false;
  const Tensor dense = contiguous(is_host(tensor.device()) ? tensor : to_device(tensor, kCpuDevice));
  return with_element_type(dense.dtype(), [&]<class T>() {
    const auto* first = reinterpret_cast<const T*>(dense.bytes());
    return !std::all_of(first, first + dense.numel(), [](T value) { return std::isfinite(widen(value)); });
  });
}

void check_result(OpCall& call) {
  if (!has_non_finite(call.output)) return;
  const auto operands = call.operands();
  if (std::any_of(operands.begin(), operands.end(), has_non_finite)) return;
  const bool narrow = call.output.dtype() == DType::kF16 || call.output.dtype() == DType::kBF16;
  if (call.context->check_numerics != NumericsCheck::kPromote || !narrow) throw_numerical(call);
  for (int k = 0; k < call.input_count; ++k) {
    Tensor& operand = call.inputs[k];
    if (operand.defined() && operand.dtype() == call.dtype) operand = to_dtype(operand, DType::kF32);
  }
  call.dtype = DType::kF32;
  call.output = empty(call.output.shape(), DType::kF32);
  ranked_backends(call).front()->run(call);
  if (has_non_finite(call.output)) throw_numerical(call);
}

void check_in_place(const OpCall& call) {
  if (has_non_finite(call.output)) throw_numerical(call);
}

}  // namespace bitnet::ops
