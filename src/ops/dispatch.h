#pragma once

// From operands to a result: read the row, check, convert, allocate, choose a back end, run, fall back.

#include "bitnet/ops/backend.h"

#include <initializer_list>

namespace bitnet::ops {

using Operands = std::initializer_list<const Tensor*>;

/// Absent operands (of norms) are undefined tensors.
[[nodiscard]] Tensor dispatch(Op op, Operands operands, const OpParams& params = {});

/// Writes the result into `output`, which may be one of the operands: its shape and dtype must be the
/// result's. Elementwise operations only.
void dispatch_into(Op op, Operands operands, Tensor& output, const OpParams& params = {});

/// The parameters of a reduction over `axes` (none: all) of x.
[[nodiscard]] OpParams reduction_params(const Tensor& x, std::span<const int> axes, bool keepdims,
                                        std::string_view function);

}  // namespace bitnet::ops
