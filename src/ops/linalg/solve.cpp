// What LU factors answer: solve, inverse, determinants.

#include "bitnet/ops/linalg.h"
#include "ops/linalg/factors.h"
#include "ops/linalg/matrices.h"
#include "ops/linalg/right_sides.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace bitnet {

using namespace linalg;

namespace {

template <class Real>
Lu<Real> factor_regular(const Batch& batch, int64_t index) {
  Lu<Real> lu = factor<Real>(batch, index);
  if (lu.zero_pivot != 0) {
    no_result(batch, index, fmt::format("singular: pivot {} of {} is 0", lu.zero_pivot, batch.rows),
              "lstsq has the solution of least norm");
  }
  return lu;
}

template <class Real>
void solve_in_place(const Batch& batch, const Lu<Real>& lu, Matrix<Real>& b) {
  if (batch.rows == 0 || b.columns == 0) return;
  check_info(batch.function, lapack::getrs(batch.rows, b.columns, lu.factors.values.data(), lu.factors.ld(),
                                           lu.pivots.data(), b.data(), b.ld()));
}

/// mantissa * 2^exponent, so that no product over- or underflows on the way.
struct Product {
  double mantissa = 1;
  int64_t exponent = 0;

  void multiply(double factor) {
    int of_factor = 0, of_product = 0;
    mantissa = std::frexp(mantissa * std::frexp(factor, &of_factor), &of_product);
    exponent += of_factor + of_product;
  }
};

template <class Real>
Product determinant_of(const Batch& batch, int64_t index) {
  const Lu<Real> lu = factor<Real>(batch, index);
  Product product;
  for (int i = 0; i < batch.rows; ++i) {
    product.multiply(static_cast<double>(lu.factors(i, i)));
    if (lu.pivots[static_cast<size_t>(i)] != i + 1) product.mantissa = -product.mantissa;
  }
  return product;
}

}  // namespace

Tensor solve(const Tensor& a, const Tensor& b) {
  const Batch batch = check_matrices("solve", a, MatrixForm::kSquare);
  const RightSides sides(batch, b);
  Tensor result = sides.result(batch.rows);
  with_real(a.dtype(), [&]<class Real>() {
    int64_t factored = -1;
    Lu<Real> lu{Matrix<Real>(0, 0), {}, 0};
    for (int64_t i = 0; i < sides.count(); ++i) {
      if (sides.matrix_of(i) != factored) {
        factored = sides.matrix_of(i);
        lu = factor_regular<Real>(batch, factored);
      }
      auto x = sides.load<Real>(i);
      solve_in_place(batch, lu, x);
      store(x, result, i);
    }
  });
  return result;
}

Tensor inverse(const Tensor& a) {
  const Batch batch = check_matrices("inverse", a, MatrixForm::kSquare);
  Tensor result = batch.result({batch.rows, batch.rows});
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; i < batch.count; ++i) {
      const Lu<Real> lu = factor_regular<Real>(batch, i);
      Matrix<Real> x(batch.rows, batch.rows);
      for (int j = 0; j < batch.rows; ++j) x(j, j) = 1;
      solve_in_place(batch, lu, x);
      store(x, result, i);
    }
  });
  return result;
}

Tensor determinant(const Tensor& a) {
  const Batch batch = check_matrices("determinant", a, MatrixForm::kSquare);
  Tensor result = batch.result({});
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; i < batch.count; ++i) {
      const Product product = determinant_of<Real>(batch, i);
      // An exponent beyond int is beyond every real type too.
      const auto exponent = static_cast<int>(std::clamp<int64_t>(product.exponent, -100000, 100000));
      result.data<Real>()[i] = static_cast<Real>(std::ldexp(product.mantissa, exponent));
    }
  });
  return result;
}

SlogDeterminant slog_determinant(const Tensor& a) {
  const Batch batch = check_matrices("slog_determinant", a, MatrixForm::kSquare);
  SlogDeterminant result{batch.result({}), batch.result({})};
  with_real(a.dtype(), [&]<class Real>() {
    for (int64_t i = 0; i < batch.count; ++i) {
      const auto [mantissa, exponent] = determinant_of<Real>(batch, i);
      result.sign.data<Real>()[i] = static_cast<Real>((mantissa > 0) - (mantissa < 0));
      result.log.data<Real>()[i] =
          static_cast<Real>(std::log(std::abs(mantissa)) + static_cast<double>(exponent) * std::log(2.0));
    }
  });
  return result;
}

}  // namespace bitnet
