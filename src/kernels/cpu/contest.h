#pragma once

#include "bitnet/kernels/cpu.h"
#include "kernels/kernel_table.h"

#include <vector>

namespace bitnet::kernels {

struct Contender {
  const KernelTable* table;
  double seconds;
};

/// The tables of runnable(features) between which features do not decide, best guess first; empty if the
/// first is the best on every processor that has it. 512-bit instructions are slower than twice as many
/// 256-bit ones on processors that split them or lower their clock for them.
[[nodiscard]] std::vector<const KernelTable*> close_tables(const CpuFeatures& features);

/// The shortest time of ternary products with one token and with 12, of a matrix that an L2 cache holds: what
/// decode and prefill are made of. About a millisecond in all.
[[nodiscard]] double measure_ternary(const KernelTable& table);

/// The choice as a pure function of what was measured: the first, unless another takes less than 0.9 of its
/// time (such short measurements vary by a few percent), and then the fastest. `contenders` is not empty.
[[nodiscard]] const KernelTable& fastest(const std::vector<Contender>& contenders);

}  // namespace bitnet::kernels
