// qr, cholesky, lu, eigh, eig. Small matrices are copied to column-major order and back; the work is
// LAPACK's.

#include "bitnet/ops/linalg.h"
#include "ops/linalg/factors.h"
#include "ops/linalg/lapack.h"
#include "ops/linalg/matrices.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet {

using namespace linalg;

namespace {

/// Keeps row <= column.
template <class Real>
void keep_upper(Matrix<Real>& matrix) {
  for (int column = 0; column < matrix.columns; ++column) {
    for (int row = column + 1; row < matrix.rows; ++row) matrix(row, column) = 0;
  }
}

/// Keeps row >= column.
template <class Real>
void keep_lower(Matrix<Real>& matrix) {
  for (int column = 0; column < matrix.columns; ++column) {
    for (int row = 0; row < std::min(column, matrix.rows); ++row) matrix(row, column) = 0;
  }
}

/// Columns j and j + 1 of LAPACK's real matrix are the real and imaginary part of a conjugate pair.
template <class Real>
void split_pairs(const std::vector<Real>& imaginary, Matrix<Real>& vectors, Matrix<Real>& imaginary_vectors) {
  for (int column = 0; column + 1 < vectors.columns; ++column) {
    if (imaginary[static_cast<size_t>(column)] == 0) continue;
    for (int row = 0; row < vectors.rows; ++row) {
      const Real part = vectors(row, column + 1);
      imaginary_vectors(row, column) = part;
      imaginary_vectors(row, column + 1) = -part;
      vectors(row, column + 1) = vectors(row, column);
    }
    ++column;
  }
}

}  // namespace

QrFactors qr(const Tensor& a) {
  const Batch batch = check_matrices("qr", a, MatrixForm::kAny);
  const int k = batch.smaller();
  QrFactors result{batch.result({batch.rows, k}), batch.result({k, batch.columns})};
  with_real(a.dtype(), [&]<class Real>() {
    std::vector<Real> tau(static_cast<size_t>(k));
    for (int64_t i = 0; k > 0 && i < batch.count; ++i) {
      auto matrix = batch.load<Real>(i);
      check_info("qr", lapack::geqrf(batch.rows, batch.columns, matrix.data(), matrix.ld(), tau.data()));
      Matrix<Real> r = matrix;
      keep_upper(r);
      store(r, result.r, i, k, batch.columns);
      check_info("qr", lapack::orgqr(batch.rows, k, k, matrix.data(), matrix.ld(), tau.data()));
      store(matrix, result.q, i, batch.rows, k);
    }
  });
  return result;
}

Tensor cholesky(const Tensor& a) {
  const Batch batch = check_matrices("cholesky", a, MatrixForm::kSquare);
  Tensor result = batch.result({batch.rows, batch.rows});
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; i < batch.count; ++i) {
      auto matrix = batch.load<Real>(i);
      const int info = lapack::potrf(batch.rows, matrix.data(), matrix.ld());
      check_info("cholesky", info);
      if (info > 0) {
        no_result(batch, i, fmt::format("the leading minor of order {} is not positive definite", info),
                  "the matrix must be symmetric with positive eigenvalues; adding a small multiple of the "
                  "identity may help");
      }
      keep_lower(matrix);
      store(matrix, result, i);
    }
  });
  return result;
}

LuFactors lu(const Tensor& a) {
  const Batch batch = check_matrices("lu", a, MatrixForm::kAny);
  const int k = batch.smaller();
  LuFactors result{batch.result({batch.rows}, DType::kI64), batch.result({batch.rows, k}),
                   batch.result({k, batch.columns})};
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; i < batch.count; ++i) {
      const Lu<Real> factored = factor<Real>(batch, i);
      Matrix<Real> upper = factored.factors, lower = factored.factors;
      keep_upper(upper);
      keep_lower(lower);
      for (int j = 0; j < k; ++j) lower(j, j) = 1;
      store(lower, result.l, i, batch.rows, k);
      store(upper, result.u, i, k, batch.columns);
      int64_t* rows = result.permutation.data<int64_t>() + i * batch.rows;
      for (int row = 0; row < batch.rows; ++row) rows[row] = row;
      for (int step = 0; step < k; ++step) {
        std::swap(rows[step], rows[factored.pivots[static_cast<size_t>(step)] - 1]);
      }
    }
  });
  return result;
}

SymmetricEigen eigh(const Tensor& a) {
  const Batch batch = check_matrices("eigh", a, MatrixForm::kSquare);
  const int n = batch.rows;
  SymmetricEigen result{batch.result({n}), batch.result({n, n})};
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; n > 0 && i < batch.count; ++i) {
      auto matrix = batch.load<Real>(i);
      const int info = lapack::syevd(n, matrix.data(), matrix.ld(), result.values.data<Real>() + i * n);
      check_info("eigh", info);
      if (info > 0) no_result(batch, i, "the iteration did not converge");
      store(matrix, result.vectors, i);
    }
  });
  return result;
}

Eigen eig(const Tensor& a) {
  const Batch batch = check_matrices("eig", a, MatrixForm::kSquare);
  const int n = batch.rows;
  Eigen result{batch.result({n}), batch.result({n}), batch.result({n, n}), batch.result({n, n})};
  with_real(a.dtype(), [&]<class Real>() {
    std::vector<Real> real(static_cast<size_t>(n)), imaginary(static_cast<size_t>(n));
    for (int64_t i = 0; n > 0 && i < batch.count; ++i) {
      auto matrix = batch.load<Real>(i);
      Matrix<Real> vectors(n, n), imaginary_vectors(n, n);
      const int info =
          lapack::geev(n, matrix.data(), matrix.ld(), real.data(), imaginary.data(), vectors.data());
      check_info("eig", info);
      if (info > 0) no_result(batch, i, "the iteration did not converge");
      split_pairs(imaginary, vectors, imaginary_vectors);
      std::ranges::copy(real, result.real.data<Real>() + i * n);
      std::ranges::copy(imaginary, result.imaginary.data<Real>() + i * n);
      store(vectors, result.vectors_real, i);
      store(imaginary_vectors, result.vectors_imaginary, i);
    }
  });
  return result;
}

}  // namespace bitnet
