#pragma once

#include "bitnet/tensor/tensor.h"

#include <cstdint>
#include <optional>

namespace bitnet {

/// Dense linear algebra through LAPACK. Matrices are the last two axes, of f32 or f64; leading axes are a
/// batch, computed one matrix after the other. K = min(M, N). Factors satisfy |A - product| <= c n eps |A|
/// with a small c (Higham, Accuracy and Stability of Numerical Algorithms, chapters 9 to 21), which
/// tests/ops/linalg_test.cpp holds them to. Sizes of 0 are matrices too. Safe from several threads.
///
/// Throw kInvalidTensor, kDeviceMismatch (host only), kDTypeMismatch (convert f16 and integers by name),
/// kShapeMismatch, kNumerical for NaN or infinity in an operand, with its place, and kComputation, with the
/// batch's index, where there is no result: a singular matrix, a matrix that is not positive definite, an
/// iteration that did not converge.

/// A = Q R: Q [.., M, K] with orthonormal columns, R [.., K, N] upper triangular. By Householder reflections.
struct QrFactors {
  Tensor q, r;
};
[[nodiscard]] QrFactors qr(const Tensor& a);

/// A = U diag(S) V: U [.., M, K], S [.., K] descending and not negative, V [.., K, N] (transposed: its rows
/// are the right singular vectors). With `full` U is [.., M, M] and V [.., N, N]. By divide and conquer.
struct SvdFactors {
  Tensor u, s, v;
};
[[nodiscard]] SvdFactors svd(const Tensor& a, bool full = false);

/// A = L L^T for symmetric positive definite A [.., N, N], of which only the lower triangle is read. L is
/// lower triangular. kComputation names the order of the first leading minor that is not positive.
[[nodiscard]] Tensor cholesky(const Tensor& a);

/// A[permutation] = L U: permutation i64 [.., M] of rows, L [.., M, K] with ones on its diagonal, U [.., K,
/// N]. By partial pivoting; a singular matrix has factors too.
struct LuFactors {
  Tensor permutation, l, u;
};
[[nodiscard]] LuFactors lu(const Tensor& a);

/// X with A X = B: A [.., N, N], B [N] or [.., N, R] with leading axes that broadcast against A's.
/// kComputation if A is singular: a pivot is exactly 0. A nearly singular matrix gives a large error;
/// condition_number tells.
[[nodiscard]] Tensor solve(const Tensor& a, const Tensor& b);
/// As solve.
[[nodiscard]] Tensor inverse(const Tensor& a);

/// [..]: the product of the pivots, accumulated in f64; 0 where singular, 1 of the 0 x 0 matrix. Beyond the
/// type's range it is infinite or 0: slog_determinant is not.
[[nodiscard]] Tensor determinant(const Tensor& a);
/// determinant = sign * exp(log): sign is -1, 0 or 1, log -infinity where it is 0.
struct SlogDeterminant {
  Tensor sign, log;
};
[[nodiscard]] SlogDeterminant slog_determinant(const Tensor& a);

/// A V = V diag(values) for symmetric A [.., N, N], of which only the lower triangle is read: values [.., N]
/// ascending, columns of V [.., N, N] orthonormal.
struct SymmetricEigen {
  Tensor values, vectors;
};
[[nodiscard]] SymmetricEigen eigh(const Tensor& a);

/// A v = lambda v for general A [.., N, N]: N complex values, pairs of conjugates side by side, and vectors
/// of length 1 as columns; real and imaginary parts apart, as there is no complex dtype. In no particular
/// order.
struct Eigen {
  Tensor real, imaginary, vectors_real, vectors_imaginary;
};
[[nodiscard]] Eigen eig(const Tensor& a);

/// The X of least norm among those of least |A X - B|: A [.., M, N], B as of solve but with M rows. rank i64
/// [..] and singular values as matrix_rank sees them. By singular values, divide and conquer.
struct LeastSquares {
  Tensor x, rank, singular_values;
};
[[nodiscard]] LeastSquares lstsq(const Tensor& a, const Tensor& b, std::optional<double> tolerance = {});

/// i64 [..]: singular values above tolerance times the largest; tolerance by default max(M, N) * eps of the
/// dtype. kInvalidArgument for a negative one.
[[nodiscard]] Tensor matrix_rank(const Tensor& a, std::optional<double> tolerance = {});

/// [..]: largest over smallest singular value; infinite where singular, 0 of an empty matrix.
[[nodiscard]] Tensor condition_number(const Tensor& a);

}  // namespace bitnet
