#pragma once

// The one broadcasting loop.

#include "ops/kernels.h"

namespace bitnet::ops {

/// Operands as strided loops see them: axes ordered by the result's strides, neighbours merged where every
/// operand allows. Operand 0 is the result.
struct LoopLayout {
  int axes = 0;
  int operands = 0;
  int64_t numel = 1;
  std::array<int64_t, kMaxDims> shape{};
  std::array<std::array<int64_t, kMaxDims>, 5> strides{};  ///< by operand, in elements; 0 where broadcast
  std::array<std::byte*, 5> data{};
  std::array<int64_t, 5> element_bytes{};
};
[[nodiscard]] LoopLayout loop_layout(OpCall& call);

/// Runs the kernel over all elements, on the context's threads where that pays.
void run_elementwise(OpCall& call, LoopKernel kernel, bool unit_strides);

}  // namespace bitnet::ops
