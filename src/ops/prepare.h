#pragma once

#include "bitnet/ops/backend.h"

namespace bitnet::ops {

/// Sets call.dtype by the row's rule, converts the operands to it, and returns the result's type. Throws
/// kUnsupported, kDTypeMismatch.
[[nodiscard]] DType prepare_dtypes(OpCall& call);

/// The result's shape by the row's family. Throws kBroadcast, kShapeMismatch, kInvalidArgument.
[[nodiscard]] Shape result_shape(const OpCall& call);

}  // namespace bitnet::ops
