// svd, and what singular values answer: matrix_rank, condition_number, lstsq.

#include "bitnet/core/error.h"
#include "bitnet/ops/linalg.h"
#include "bitnet/tensor/copy.h"
#include "ops/linalg/lapack.h"
#include "ops/linalg/matrices.h"
#include "ops/linalg/right_sides.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace bitnet {

using namespace linalg;

namespace {

enum class Vectors : char { kNone = 'N', kReduced = 'S', kFull = 'A' };

/// U and V are 0 x 0 for kNone.
template <class Real>
struct Singular {
  Matrix<Real> u{0, 0}, v{0, 0};
  std::vector<Real> values;
};

template <class Real>
Singular<Real> decompose(const Batch& batch, int64_t index, Vectors vectors) {
  const int k = batch.smaller();
  Singular<Real> result;
  result.values.resize(static_cast<size_t>(k));
  if (vectors != Vectors::kNone) {
    const bool full = vectors == Vectors::kFull;
    result.u = Matrix<Real>(batch.rows, full ? batch.rows : k);
    result.v = Matrix<Real>(full ? batch.columns : k, batch.columns);
  }
  if (k == 0) {  // LAPACK returns before it writes the identities that U and V are
    for (int i = 0; i < std::min(result.u.rows, result.u.columns); ++i) result.u(i, i) = 1;
    for (int i = 0; i < std::min(result.v.rows, result.v.columns); ++i) result.v(i, i) = 1;
    return result;
  }
  auto matrix = batch.load<Real>(index);
  std::vector<int> integers(8 * static_cast<size_t>(k));
  const int info = lapack::gesdd(static_cast<char>(vectors), batch.rows, batch.columns, matrix.data(),
                                 matrix.ld(), result.values.data(), result.u.data(), result.u.ld(),
                                 result.v.data(), result.v.ld(), integers.data());
  check_info(batch.function, info);
  if (info > 0) no_result(batch, index, "the iteration did not converge");
  return result;
}

double relative_tolerance(const Batch& batch, std::optional<double> tolerance) {
  if (tolerance && !(*tolerance >= 0)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: the tolerance must not be negative, found {}", batch.function, *tolerance));
  }
  const double eps = batch.tensor.dtype() == DType::kF32 ? std::numeric_limits<float>::epsilon()
                                                         : std::numeric_limits<double>::epsilon();
  return tolerance.value_or(eps * std::max(batch.rows, batch.columns));
}

}  // namespace

SvdFactors svd(const Tensor& a, bool full) {
  const Batch batch = check_matrices("svd", a, MatrixForm::kAny);
  const int k = batch.smaller();
  SvdFactors result{batch.result({batch.rows, full ? batch.rows : k}), batch.result({k}),
                    batch.result({full ? batch.columns : k, batch.columns})};
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; i < batch.count; ++i) {
      const auto singular = decompose<Real>(batch, i, full ? Vectors::kFull : Vectors::kReduced);
      store(singular.u, result.u, i);
      store(singular.v, result.v, i);
      std::ranges::copy(singular.values, result.s.data<Real>() + i * k);
    }
  });
  return result;
}

Tensor matrix_rank(const Tensor& a, std::optional<double> tolerance) {
  const Batch batch = check_matrices("matrix_rank", a, MatrixForm::kAny);
  const double relative = relative_tolerance(batch, tolerance);
  Tensor result = batch.result({}, DType::kI64);
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; i < batch.count; ++i) {
      const auto values = decompose<Real>(batch, i, Vectors::kNone).values;
      const double least = values.empty() ? 0 : relative * static_cast<double>(values.front());
      result.data<int64_t>()[i] =
          std::ranges::count_if(values, [&](Real value) { return static_cast<double>(value) > least; });
    }
  });
  return result;
}

Tensor condition_number(const Tensor& a) {
  const Batch batch = check_matrices("condition_number", a, MatrixForm::kAny);
  Tensor result = batch.result({});
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; i < batch.count; ++i) {
      const auto values = decompose<Real>(batch, i, Vectors::kNone).values;
      if (values.empty()) continue;
      const Real least = values.back();
      result.data<Real>()[i] = least == 0 ? std::numeric_limits<Real>::infinity() : values.front() / least;
    }
  });
  return result;
}

LeastSquares lstsq(const Tensor& a, const Tensor& b, std::optional<double> tolerance) {
  const Batch batch = check_matrices("lstsq", a, MatrixForm::kAny);
  const RightSides sides(batch, b);
  const double relative = relative_tolerance(batch, tolerance);
  const int k = batch.smaller(), taller = std::max(batch.rows, batch.columns);
  // Of broadcast systems each has its own A: rank and values of A's own batch are enough.
  LeastSquares result{sides.result(batch.columns), batch.result({}, DType::kI64), batch.result({k})};
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; k > 0 && i < sides.count(); ++i) {
      const int64_t which = sides.matrix_of(i);
      auto matrix = batch.load<Real>(which);
      const auto right = sides.load<Real>(i);
      Matrix<Real> x(taller, sides.columns());
      for (int row = 0; row < batch.rows; ++row) {
        for (int column = 0; column < sides.columns(); ++column) x(row, column) = right(row, column);
      }
      int rank = 0;
      const int info = lapack::gelsd(batch.rows, batch.columns, sides.columns(), matrix.data(), matrix.ld(),
                                     x.data(), x.ld(), result.singular_values.data<Real>() + which * k,
                                     static_cast<Real>(relative), &rank);
      check_info("lstsq", info);
      if (info > 0) no_result(batch, which, "the iteration did not converge");
      result.rank.data<int64_t>()[which] = rank;
      store(x, result.x, i, batch.columns, sides.columns());
    }
  });
  return result;
}

}  // namespace bitnet
