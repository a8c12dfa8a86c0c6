#pragma once

#include "bitnet/core/thread_pool.h"
#include "bitnet/kernels/measure.h"
#include "kernels/kernel_table.h"

#include <functional>
#include <vector>

namespace bitnet::kernels {

/// What the cases below share: the table under the clock, the oracle, the threads, and the results so far.
struct KernelMeter {
  const KernelTable& table;
  const KernelTable& scalar;
  ThreadPool& pool;
  const KernelShapes& shapes;
  std::vector<KernelSpeed> results;

  /// Adds `speed` with the median time of call(), run once before without the clock.
  void time(KernelSpeed speed, const std::function<void()>& call);
};

/// Throws kInternal: a kernel's result differs from the scalar table's.
[[noreturn]] void throw_difference(const KernelSpeed& speed, const KernelTable& table);

void measure_ternary_products(KernelMeter& meter);
void measure_head_products(KernelMeter& meter);
void measure_sparse_products(KernelMeter& meter);
void measure_head_scans(KernelMeter& meter);
void measure_attention(KernelMeter& meter);
void measure_row_kernels(KernelMeter& meter);

}  // namespace bitnet::kernels
