#pragma once

#include "bitnet/ops/backend.h"

namespace bitnet::ops {

/// Rows of a table by index. Throws kOutOfRange for an index beyond them.
void run_embedding(OpCall& call);

}  // namespace bitnet::ops
