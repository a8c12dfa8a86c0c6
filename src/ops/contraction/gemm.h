#pragma once

#include "bitnet/ops/context.h"

#include <cstdint>

namespace bitnet::ops {

/// A row-major matrix as BLAS reads it: rows of `stride` elements, or its transpose.
template <class Real>
struct GemmOperand {
  const Real* data = nullptr;
  int64_t stride = 0;
  bool transposed = false;
};

/// y = a b, row-major: a [rows, depth], b [depth, columns], y with rows of y_stride elements. All sizes are
/// at least 1 and fit in 32 bits.
template <class Real>
struct GemmProblem {
  int64_t rows = 0, depth = 0, columns = 0;
  GemmOperand<Real> a, b;
  Real* y = nullptr;
  int64_t y_stride = 0;
};

/// On the calling thread.
template <class Real>
void gemm(const GemmProblem<Real>& problem);

/// How a product is split: into parts by rows and by columns.
struct GemmGrid {
  int64_t by_rows = 1, by_columns = 1;
  [[nodiscard]] int64_t parts() const { return by_rows * by_columns; }
};

/// As many parts as threads, or as there is work for.
[[nodiscard]] GemmGrid gemm_grid(int64_t rows, int64_t depth, int64_t columns, int threads);

/// Part `part` of the grid. Parts begin at multiples of 64, so that every tile of BLAS's kernels is the same
/// whatever the split, and each is large enough to be computed by the same kernels as the whole: the bits do
/// not depend on the split.
template <class Real>
[[nodiscard]] GemmProblem<Real> gemm_part(const GemmProblem<Real>& problem, int64_t part,
                                          const GemmGrid& grid);

/// Threads that a context grants.
[[nodiscard]] int threads_of(const ExecutionContext& context);

}  // namespace bitnet::ops
