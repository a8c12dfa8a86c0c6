#pragma once

// What several functions of linalg are made of.

#include "ops/linalg/lapack.h"
#include "ops/linalg/matrices.h"

#include <cmath>
#include <vector>

namespace bitnet::linalg {

/// P A = L U in one matrix: row i is exchanged for row pivots[i] (from 1), one after the other.
template <class Real>
struct Lu {
  Matrix<Real> factors;
  std::vector<int> pivots;
  int zero_pivot = 0;  ///< its place from 1; 0: none
};

template <class Real>
Lu<Real> factor(const Batch& batch, int64_t index) {
  Lu<Real> lu{batch.load<Real>(index), std::vector<int>(static_cast<size_t>(batch.smaller())), 0};
  if (batch.smaller() == 0) return lu;
  lu.zero_pivot =
      lapack::getrf(batch.rows, batch.columns, lu.factors.data(), lu.factors.ld(), lu.pivots.data());
  check_info(batch.function, lu.zero_pivot);
  return lu;
}

}  // namespace bitnet::linalg
