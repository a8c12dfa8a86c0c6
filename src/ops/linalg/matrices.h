#pragma once

// Batches of matrices: row-major tensors outside, column-major copies for LAPACK inside.

#include "bitnet/tensor/tensor.h"

#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

namespace bitnet::linalg {

/// A column-major matrix.
template <class Real>
struct Matrix {
  int rows = 0, columns = 0;
  std::vector<Real> values;

  Matrix(int row_count, int column_count)
      : rows(row_count),
        columns(column_count),
        values(static_cast<size_t>(row_count) * static_cast<size_t>(column_count)) {}
  Real& operator()(int row, int column) { return values[index(row, column)]; }
  Real operator()(int row, int column) const { return values[index(row, column)]; }
  [[nodiscard]] size_t index(int row, int column) const {
    return static_cast<size_t>(column) * static_cast<size_t>(rows) + static_cast<size_t>(row);
  }
  Real* data() { return values.data(); }
  /// As LAPACK wants it.
  [[nodiscard]] int ld() const { return rows > 0 ? rows : 1; }
};

/// A checked operand: contiguous, finite, of f32 or f64.
struct Batch {
  std::string_view function;
  Tensor tensor;
  Shape leading;
  int64_t count = 1;
  int rows = 0, columns = 0;

  /// Matrix `index` of the batch.
  template <class Real>
  [[nodiscard]] Matrix<Real> load(int64_t index) const {
    Matrix<Real> matrix(rows, columns);
    const Real* value = tensor.data<Real>() + index * rows * columns;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) matrix(row, column) = *value++;
    }
    return matrix;
  }
  /// The leading axes and these, of the operand's dtype unless another is named.
  [[nodiscard]] Tensor result(std::initializer_list<int64_t> axes, std::optional<DType> dtype = {}) const;
  [[nodiscard]] int smaller() const { return rows < columns ? rows : columns; }
};

enum class MatrixForm { kAny, kSquare };
[[nodiscard]] Batch check_matrices(std::string_view function, const Tensor& a, MatrixForm form);

/// Throws kNumerical if an element is NaN or infinite.
void check_finite(std::string_view function, const Tensor& contiguous_tensor);

/// kComputation: "cholesky: matrix 3: ...".
[[noreturn]] void no_result(const Batch& batch, int64_t index, std::string_view reason,
                            std::string_view hint = {});
/// A negative info: an argument that LAPACK refused. Our fault.
void check_info(std::string_view function, int info);

/// Rows [0, rows) and columns [0, columns) of `matrix` into matrix `index` of the result.
template <class Real>
void store(const Matrix<Real>& matrix, Tensor& result, int64_t index, int rows, int columns) {
  Real* value = result.data<Real>() + index * rows * columns;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) *value++ = matrix(row, column);
  }
}
template <class Real>
void store(const Matrix<Real>& matrix, Tensor& result, int64_t index) {
  store(matrix, result, index, matrix.rows, matrix.columns);
}

/// body.template operator()<float or double>().
template <class Body>
void with_real(DType dtype, Body&& body) {
  if (dtype == DType::kF32) {
    body.template operator()<float>();
  } else {
    body.template operator()<double>();
  }
}

}  // namespace bitnet::linalg
