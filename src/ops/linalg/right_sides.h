#pragma once

#include "ops/linalg/matrices.h"

#include <vector>

namespace bitnet::linalg {

/// B of A X = B: one vector [M], or matrices [.., M, R] whose leading axes broadcast against A's.
class RightSides {
 public:
  /// Throws kShapeMismatch, kBroadcast, kDTypeMismatch, kNumerical.
  RightSides(const Batch& a, const Tensor& b);

  /// Systems, after broadcasting; each has its matrix among A's.
  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(matrices_.size()); }
  [[nodiscard]] int64_t matrix_of(int64_t system) const { return matrices_[static_cast<size_t>(system)]; }
  [[nodiscard]] int columns() const { return columns_; }

  template <class Real>
  [[nodiscard]] Matrix<Real> load(int64_t system) const {
    Matrix<Real> matrix(rows_, columns_);
    const Real* value = tensor_.data<Real>() + system * rows_ * columns_;
    for (int row = 0; row < rows_; ++row) {
      for (int column = 0; column < columns_; ++column) matrix(row, column) = *value++;
    }
    return matrix;
  }
  /// X's tensor, for so many unknowns.
  [[nodiscard]] Tensor result(int unknowns) const;

 private:
  Tensor tensor_;  ///< contiguous [systems.., rows, columns]
  Shape leading_;
  std::vector<int64_t> matrices_;
  int rows_, columns_ = 1;
  bool vector_;
};

}  // namespace bitnet::linalg
