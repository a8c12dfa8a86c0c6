#pragma once

// The one reduction: any axes, in blocks whose borders depend on the shape alone, so that results do not
// depend on the number of threads.
//
// Sums of floats are f64 sums of at most n terms, rounded once: with u = 2^-53 the error before that rounding
// is at most n u sum|a|. Variances take means of blocks of at most kReduceBlock and join them by the formula
// of Chan, Golub and LeVeque ("Algorithms for computing the sample variance", 1983).

#include "ops/kernels.h"

namespace bitnet::ops {

inline constexpr int64_t kReduceBlock = 16384;

void run_reduction(OpCall& call, ReduceKernel kernel);

[[nodiscard]] constexpr bool is_quantile(Op op) {
  return op == Op::kMedian || op == Op::kQuantile;
}
/// By selection in a copy, f64 arithmetic between the two neighbours.
void run_quantile(OpCall& call);

}  // namespace bitnet::ops
