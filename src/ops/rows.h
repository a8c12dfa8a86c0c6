#pragma once

// Operations along the last axis, whose rows do not depend on each other.

#include "ops/kernels.h"

namespace bitnet::ops {

/// Operands that are not contiguous are copied first (counted as "contiguous").
void run_rows(OpCall& call, RowKernel kernel);

}  // namespace bitnet::ops
