#pragma once

#include "bitnet/core/thread_pool.h"
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

/// The shortest times of one token's products on all threads of the pool with 256 million weights in memory,
/// as t2x16 and as t53x16; the table has kernels for both. Some 30 ms, most of them for the 64 MiB.
[[nodiscard]] MeasuredLayouts measure_layouts(const KernelTable& table, ThreadPool& pool);

/// Whether t53x16 is clearly faster for one token; it is a little slower for 4 to 16.
[[nodiscard]] bool tight_pays(double blocks_seconds, double tight_seconds);

}  // namespace bitnet::kernels
