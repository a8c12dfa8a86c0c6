#pragma once

#include "bitnet/ops/backend.h"

namespace bitnet::ops {

/// Whether a tensor of floating type has a NaN or an infinity; false for other types.
[[nodiscard]] bool has_non_finite(const Tensor& tensor);

/// Applies the context's check_numerics to a finished call: throws kNumerical, or repeats a 16-bit operation
/// in f32 and replaces call.output.
void check_result(OpCall& call);
/// The same for a result that replaced an operand: what came before is gone, so NaN or infinity are reported
/// wherever the result has them.
void check_in_place(const OpCall& call);

}  // namespace bitnet::ops
