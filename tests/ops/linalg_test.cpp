// Factors are held to their residuals, in f64, against the bounds of backward stability: |A - product|
// (Frobenius)
// <= kBound * n * eps * |A| with n the larger side. Higham (Accuracy and Stability of Numerical Algorithms,
// 2nd ed., theorems 9.3, 10.3, 19.4 and section 7) has n^2 and n^1.5 in his worst cases; a factor of 10 n is
// far above what is seen (below 2 n) and far below what a wrong factor gives.
#include "bitnet/ops/linalg.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kBound = 10;

/// A matrix of doubles, for checking.
struct Dense {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;

  Dense(int64_t row_count, int64_t column_count)
      : rows(row_count), columns(column_count), values(static_cast<size_t>(row_count * column_count)) {}
  explicit Dense(const Tensor& tensor) : Dense(tensor.size(0), tensor.size(1)) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) (*this)(i, j) = tensor.at({i, j});
    }
  }
  double& operator()(int64_t i, int64_t j) { return values[static_cast<size_t>(i * columns + j)]; }
  double operator()(int64_t i, int64_t j) const { return values[static_cast<size_t>(i * columns + j)]; }
  [[nodiscard]] double norm() const {
    return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0));
  }
  [[nodiscard]] Dense transposed() const {
    Dense result(columns, rows);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) result(j, i) = (*this)(i, j);
    }
    return result;
  }
};

Dense operator*(const Dense& a, const Dense& b) {
  Dense result(a.rows, b.columns);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < b.columns; ++j) {
      for (int64_t k = 0; k < a.columns; ++k) result(i, j) += a(i, k) * b(k, j);
    }
  }
  return result;
}

Dense operator-(Dense a, const Dense& b) {
  for (size_t i = 0; i < a.values.size(); ++i) a.values[i] -= b.values[i];
  return a;
}

Dense identity(int64_t n) {
  Dense result(n, n);
  for (int64_t i = 0; i < n; ++i) result(i, i) = 1;
  return result;
}

double eps_of(DType dtype) {
  return dtype == DType::kF32 ? std::numeric_limits<float>::epsilon()
                              : std::numeric_limits<double>::epsilon();
}

/// |difference| against the bound for a problem of size n and scale |A|.
void expect_small(const Dense& difference, int64_t n, double scale, DType dtype) {
  EXPECT_LE(difference.norm(), kBound * static_cast<double>(std::max<int64_t>(n, 1)) * eps_of(dtype) * scale);
}

void expect_orthonormal_columns(const Dense& q, DType dtype) {
  expect_small(q.transposed() * q - identity(q.columns), std::max(q.rows, q.columns),
               std::sqrt(static_cast<double>(std::max<int64_t>(q.columns, 1))), dtype);
}

template <class Call>
Error error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::kInternal, "nothing was thrown"};
}

struct Case {
  int64_t rows, columns;
  DType dtype;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  return std::to_string(info.param.rows) + "x" + std::to_string(info.param.columns) +
         std::string(to_string(info.param.dtype));
}

class Shapes : public testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] static Tensor matrix(uint64_t stream = 0) {
    const Shape shape = {GetParam().rows, GetParam().columns};
    return randn(shape, {11, stream}, GetParam().dtype);
  }
  [[nodiscard]] static int64_t larger() { return std::max(GetParam().rows, GetParam().columns); }
  [[nodiscard]] static int64_t smaller() { return std::min(GetParam().rows, GetParam().columns); }
  [[nodiscard]] static DType dtype() { return GetParam().dtype; }
};

TEST_P(Shapes, QrGivesTheMatrixBackFromOrthonormalAndTriangularFactors) {
  const Tensor a = matrix();
  const QrFactors factors = qr(a);
  const Dense dense(a), q(factors.q), r(factors.r);
  ASSERT_EQ(q.columns, smaller());
  expect_small(dense - q * r, larger(), dense.norm(), dtype());
  expect_orthonormal_columns(q, dtype());
  for (int64_t i = 0; i < r.rows; ++i) {
    for (int64_t j = 0; j < std::min(i, r.columns); ++j) EXPECT_EQ(r(i, j), 0);
  }
}

TEST_P(Shapes, SvdGivesTheMatrixBackFromOrthonormalFactorsAndDescendingValues) {
  for (const bool full : {false, true}) {
    const Tensor a = matrix();
    const SvdFactors factors = svd(a, full);
    const Dense dense(a), u(factors.u), v(factors.v);
    EXPECT_EQ(u.columns, full ? GetParam().rows : smaller());
    EXPECT_EQ(v.rows, full ? GetParam().columns : smaller());
    Dense middle(u.columns, v.rows);
    double previous = std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < smaller(); ++i) {
      const double value = factors.s.at({i});
      EXPECT_LE(value, previous);
      EXPECT_GE(value, 0);
      middle(i, i) = previous = value;
    }
    expect_small(dense - u * middle * v, larger(), dense.norm(), dtype());
    expect_orthonormal_columns(u, dtype());
    expect_orthonormal_columns(v.transposed(), dtype());
  }
}

TEST_P(Shapes, LuGivesThePermutedMatrixBackFromTriangularFactors) {
  const Tensor a = matrix();
  const LuFactors factors = lu(a);
  const Dense dense(a), l(factors.l), u(factors.u);
  Dense permuted(dense.rows, dense.columns);
  std::vector<bool> seen(static_cast<size_t>(dense.rows));
  for (int64_t i = 0; i < dense.rows; ++i) {
    const auto row = static_cast<int64_t>(factors.permutation.at({i}));
    seen.at(static_cast<size_t>(row)) = true;
    for (int64_t j = 0; j < dense.columns; ++j) permuted(i, j) = dense(row, j);
  }
  EXPECT_THAT(seen, testing::Each(true));
  // Partial pivoting bounds L by 1, so that |L| |U| is within n^2 of |A| and seldom above.
  expect_small(permuted - l * u, larger(), l.norm() * u.norm(), dtype());
  for (int64_t i = 0; i < l.rows; ++i) {
    for (int64_t j = 0; j < l.columns; ++j) {
      if (i == j) {
        EXPECT_EQ(l(i, j), 1);
      } else if (j > i) {
        EXPECT_EQ(l(i, j), 0);
      }
      EXPECT_LE(std::abs(l(i, j)), 1);
    }
  }
}

TEST_P(Shapes, RankIsFullOfRandomMatricesAndSmallOfProducts) {
  EXPECT_EQ(matrix_rank(matrix()).item(), static_cast<double>(smaller()));
  if (smaller() < 2) return;
  // Every row the first one: rank 1.
  const Tensor rows = contiguous(matrix().narrow(0, 0, 1).expand({GetParam().rows, GetParam().columns}));
  EXPECT_EQ(matrix_rank(rows).item(), 1);
}

TEST_P(Shapes, LeastSquaresResidualIsOrthogonalToTheColumns) {
  const Tensor a = matrix();
  const Tensor b = randn(Shape{GetParam().rows, 2}, {11, 9}, dtype());
  const LeastSquares result = lstsq(a, b);
  const Dense dense(a), x(result.x), right(b);
  ASSERT_EQ(x.rows, GetParam().columns);
  // Of a consistent system the residual itself is 0; else A^T r = 0. Both scale with |A|^2 |x| at most.
  const Dense gradient = dense.transposed() * (dense * x - right);
  expect_small(gradient, larger(), dense.norm() * (dense.norm() * x.norm() + right.norm()), dtype());
  EXPECT_EQ(result.rank.item(), static_cast<double>(smaller()));
}

INSTANTIATE_TEST_SUITE_P(Linalg, Shapes,
                         testing::Values(Case{1, 1, DType::kF32}, Case{5, 5, DType::kF32},
                                         Case{40, 7, DType::kF32}, Case{7, 40, DType::kF32},
                                         Case{65, 65, DType::kF32}, Case{1, 1, DType::kF64},
                                         Case{1, 9, DType::kF64}, Case{9, 1, DType::kF64},
                                         Case{33, 20, DType::kF64}, Case{20, 33, DType::kF64},
                                         Case{64, 64, DType::kF64}, Case{0, 0, DType::kF64},
                                         Case{0, 3, DType::kF32}, Case{3, 0, DType::kF32}),
                         name_of);

class Squares : public testing::TestWithParam<DType> {
 protected:
  static constexpr int64_t kSize = 24;
  [[nodiscard]] static Tensor matrix(uint64_t stream = 0) {
    return randn(Shape{kSize, kSize}, {5, stream}, GetParam());
  }
  /// B B^T + I: symmetric, eigenvalues at least 1.
  [[nodiscard]] static Tensor positive() {
    const Dense b(matrix());
    const Dense product = b * b.transposed();
    Tensor result = zeros({kSize, kSize}, GetParam());
    for (int64_t i = 0; i < kSize; ++i) {
      for (int64_t j = 0; j < kSize; ++j) {
        const double value = product(i, j) + (i == j ? 1 : 0);
        if (GetParam() == DType::kF32) {
          result.data<float>()[i * kSize + j] = static_cast<float>(value);
        } else {
          result.data<double>()[i * kSize + j] = value;
        }
      }
    }
    return result;
  }
};

TEST_P(Squares, CholeskyGivesTheMatrixBack) {
  const Tensor a = positive();
  const Dense dense(a), l(cholesky(a));
  expect_small(dense - l * l.transposed(), kSize, dense.norm(), GetParam());
  for (int64_t i = 0; i < kSize; ++i) {
    EXPECT_GT(l(i, i), 0);
    for (int64_t j = i + 1; j < kSize; ++j) EXPECT_EQ(l(i, j), 0);
  }
}

TEST_P(Squares, SolveHasASmallResidualForVectorsAndMatrices) {
  const Tensor a = matrix(), b = randn(Shape{kSize, 3}, {5, 7}, GetParam());
  const Dense dense(a), x(solve(a, b)), right(b);
  expect_small(dense * x - right, kSize, dense.norm() * x.norm(), GetParam());
  const Tensor one = solve(a, b.select(1, 2));
  ASSERT_THAT(one.shape(), ElementsAre(kSize));
  for (int64_t i = 0; i < kSize; ++i) EXPECT_NEAR(one.at({i}), x(i, 2), 1e-3 * x.norm());
}

TEST_P(Squares, InverseTimesTheMatrixIsTheIdentity) {
  const Tensor a = matrix();
  const Dense dense(a), inverted(inverse(a));
  expect_small(dense * inverted - identity(kSize), kSize, dense.norm() * inverted.norm(), GetParam());
}

TEST_P(Squares, EigenvaluesOfSymmetricMatricesDiagonalize) {
  const Tensor a = positive();
  const SymmetricEigen result = eigh(a);
  const Dense dense(a), vectors(result.vectors);
  Dense scaled = vectors;
  for (int64_t j = 0; j < kSize; ++j) {
    if (j > 0) {
      EXPECT_LE(result.values.at({j - 1}), result.values.at({j}));
    }
    for (int64_t i = 0; i < kSize; ++i) scaled(i, j) *= result.values.at({j});
  }
  expect_small(dense * vectors - scaled, kSize, dense.norm(), GetParam());
  expect_orthonormal_columns(vectors, GetParam());
}

TEST_P(Squares, EigenvaluesOfGeneralMatricesSatisfyTheirEquation) {
  const Tensor a = matrix();
  const Eigen result = eig(a);
  const Dense dense(a), real(result.vectors_real), imaginary(result.vectors_imaginary);
  const Dense a_real = dense * real, a_imaginary = dense * imaginary;
  Dense difference(2 * kSize, kSize);
  int complex_values = 0;
  for (int64_t j = 0; j < kSize; ++j) {
    const double x = result.real.at({j}), y = result.imaginary.at({j});
    complex_values += y != 0 ? 1 : 0;
    for (int64_t i = 0; i < kSize; ++i) {
      difference(i, j) = a_real(i, j) - (x * real(i, j) - y * imaginary(i, j));
      difference(kSize + i, j) = a_imaginary(i, j) - (x * imaginary(i, j) + y * real(i, j));
    }
  }
  EXPECT_GT(complex_values, 0);  // otherwise this matrix tests half of it
  EXPECT_LT(complex_values, kSize);
  // Columns have length 1: sqrt(n) of them.
  expect_small(difference, kSize, dense.norm() * std::sqrt(static_cast<double>(kSize)), GetParam());
}

TEST_P(Squares, DeterminantIsTheProductOfTheSingularValues) {
  const Tensor a = matrix();
  const Tensor values = svd(a).s;
  double product = 1;
  for (int64_t i = 0; i < kSize; ++i) product *= values.at({i});
  const double found = determinant(a).item();
  EXPECT_NEAR(std::abs(found) / product, 1, kBound * kSize * eps_of(GetParam()) * condition_number(a).item());
  const SlogDeterminant logs = slog_determinant(a);
  EXPECT_EQ(logs.sign.item(), found < 0 ? -1 : 1);
  EXPECT_NEAR(logs.log.item(), std::log(std::abs(found)), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Linalg, Squares, testing::Values(DType::kF32, DType::kF64),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

TEST(Linalg, KnownValues) {
  const Tensor a = from_values({4.0, 2.0, 2.0, 3.0}, {2, 2});
  EXPECT_DOUBLE_EQ(determinant(a).item(), 8);
  const Tensor l = cholesky(a);
  EXPECT_DOUBLE_EQ(l.at({0, 0}), 2);
  EXPECT_DOUBLE_EQ(l.at({1, 0}), 1);
  EXPECT_DOUBLE_EQ(l.at({1, 1}), std::sqrt(2));
  EXPECT_THAT(to_vector<double>(inverse(a)),
              testing::Pointwise(testing::DoubleNear(1e-15), {0.375, -0.25, -0.25, 0.5}));
  // A rotation by 90 degrees: eigenvalues +-i, determinant 1, condition 1.
  const Tensor turn = from_values({0.0, -1.0, 1.0, 0.0}, {2, 2});
  EXPECT_DOUBLE_EQ(determinant(turn).item(), 1);
  EXPECT_DOUBLE_EQ(condition_number(turn).item(), 1);
  const Eigen result = eig(turn);
  EXPECT_THAT(to_vector<double>(result.real), ElementsAre(0, 0));
  EXPECT_DOUBLE_EQ(result.imaginary.at({0}), -result.imaginary.at({1}));
  EXPECT_DOUBLE_EQ(std::abs(result.imaginary.at({0})), 1);
  // One exchange of rows.
  EXPECT_DOUBLE_EQ(determinant(from_values({0.0, 1.0, 1.0, 0.0}, {2, 2})).item(), -1);
}

TEST(Linalg, SingularMatricesHaveADeterminantARankAndFactorsButNoInverse) {
  const Tensor a = from_values({1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 1.0, 0.0, 1.0}, {3, 3});
  EXPECT_EQ(determinant(a).item(), 0);
  EXPECT_EQ(slog_determinant(a).sign.item(), 0);
  EXPECT_EQ(slog_determinant(a).log.item(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(matrix_rank(a).item(), 2);
  EXPECT_GT(condition_number(a).item(), 1e15);
  EXPECT_EQ(condition_number(zeros({2, 2})).item(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(lu(a).u.at({2, 2}), 0);
  const Error error = error_of([&] { (void)inverse(a); });
  EXPECT_EQ(error.code(), ErrorCode::kComputation);
  EXPECT_THAT(error.what(), HasSubstr("inverse: singular: pivot 3 of 3 is 0"));
  EXPECT_EQ(error_of([&] { (void)solve(a, ones({3}, DType::kF64)); }).code(), ErrorCode::kComputation);
  EXPECT_EQ(lstsq(a, ones({3}, DType::kF64)).rank.item(), 2);
}

TEST(Linalg, LeastSquaresTakesTheLeastOfManySolutions) {
  // x + y = 2: the solution nearest to 0 is (1, 1).
  const LeastSquares result = lstsq(from_values({1.0, 1.0}, {1, 2}), from_values({2.0}, {1}));
  EXPECT_NEAR(result.x.at({0}), 1, 1e-14);
  EXPECT_NEAR(result.x.at({1}), 1, 1e-14);
}

TEST(Linalg, CholeskyNamesTheMinorAndReadsTheLowerTriangleOnly) {
  const double far = 99;
  const Tensor bad = from_values({4.0, far, far, 2.0, 1.0, far, 0.0, 0.0, 1.0}, {3, 3});  // 4 * 1 - 2 * 2 = 0
  const Error error = error_of([&] { (void)cholesky(bad); });
  EXPECT_EQ(error.code(), ErrorCode::kComputation);
  EXPECT_THAT(error.what(), HasSubstr("the leading minor of order 2 is not positive definite"));
  EXPECT_EQ(cholesky(from_values({1.0, far, 0.0, 1.0}, {2, 2})).at({1, 1}), 1);
  EXPECT_EQ(eigh(from_values({1.0, far, 0.0, 1.0}, {2, 2})).values.at({1}), 1);
}

TEST(Linalg, BatchesAreTheirMatricesOneByOneAndErrorsNameTheOne) {
  const Tensor a = randn(Shape{2, 3, 4, 4}, {3}, DType::kF64);
  const Tensor inverses = inverse(a), determinants = determinant(a);
  ASSERT_THAT(determinants.shape(), ElementsAre(2, 3));
  for (int64_t i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      const Tensor one = a.select(0, i).select(0, j);
      EXPECT_EQ(to_vector<double>(inverses.select(0, i).select(0, j)), to_vector<double>(inverse(one)));
      EXPECT_EQ(determinants.at({i, j}), determinant(one).item());
    }
  }
  Tensor bad = clone(a);
  for (int64_t i = 0; i < 16; ++i) bad.data<double>()[4 * 16 + i] = 0;
  EXPECT_THAT(error_of([&] { (void)inverse(bad); }).what(), HasSubstr("inverse: matrix 4: singular"));
}

TEST(Linalg, SolveBroadcastsMatricesAgainstRightSides) {
  const Tensor a = randn(Shape{3, 1, 4, 4}, {3}, DType::kF64), b = randn(Shape{2, 4, 5}, {4}, DType::kF64);
  const Tensor x = solve(a, b);
  ASSERT_THAT(x.shape(), ElementsAre(3, 2, 4, 5));
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      EXPECT_EQ(to_vector<double>(x.select(0, i).select(0, j)),
                to_vector<double>(solve(a.select(0, i).select(0, 0), b.select(0, j))));
    }
  }
  EXPECT_THAT(solve(a, ones({4}, DType::kF64)).shape(), ElementsAre(3, 1, 4));
  EXPECT_EQ(error_of([&] {
              (void)solve(a, randn(Shape{2, 2, 4, 5}, {4}, DType::kF64));
            }).code(),
            ErrorCode::kBroadcast);
  EXPECT_EQ(error_of([&] { (void)solve(a, ones({5}, DType::kF64)); }).code(), ErrorCode::kShapeMismatch);
  EXPECT_EQ(error_of([&] { (void)solve(a, ones({4})); }).code(), ErrorCode::kDTypeMismatch);
}

TEST(Linalg, ViewsAreReadByTheirStrides) {
  const Tensor a = randn(Shape{5, 5}, {8}, DType::kF64);
  EXPECT_EQ(determinant(a.transpose(0, 1)).item(), determinant(contiguous(a.transpose(0, 1))).item());
  EXPECT_EQ(to_vector<double>(inverse(a.slice(0, {}, {}, -1))),
            to_vector<double>(inverse(contiguous(a.slice(0, {}, {}, -1)))));
}

TEST(Linalg, EmptyMatricesAndEmptyBatches) {
  const Tensor nothing = zeros({0, 0});
  EXPECT_EQ(determinant(nothing).item(), 1);
  EXPECT_EQ(slog_determinant(nothing).log.item(), 0);
  EXPECT_EQ(matrix_rank(nothing).item(), 0);
  EXPECT_EQ(condition_number(nothing).item(), 0);
  EXPECT_THAT(inverse(nothing).shape(), ElementsAre(0, 0));
  EXPECT_THAT(cholesky(nothing).shape(), ElementsAre(0, 0));
  EXPECT_THAT(eigh(nothing).values.shape(), ElementsAre(0));
  EXPECT_THAT(eig(nothing).vectors_real.shape(), ElementsAre(0, 0));
  EXPECT_THAT(solve(nothing, zeros({0, 3})).shape(), ElementsAre(0, 3));
  EXPECT_THAT(lstsq(zeros({3, 0}), ones({3})).x.shape(), ElementsAre(0));
  EXPECT_THAT(svd(zeros({0, 4, 2})).s.shape(), ElementsAre(0, 2));
  EXPECT_THAT(determinant(zeros({2, 0, 3, 3})).shape(), ElementsAre(2, 0));
}

TEST(Linalg, DeterminantsBeyondTheRangeAreInfiniteAndTheirLogarithmsAreNot) {
  Tensor large = eye(60);
  for (int64_t i = 0; i < 60; ++i) large.data<float>()[i * 61] = 1e30F;
  EXPECT_EQ(determinant(large).item(), std::numeric_limits<double>::infinity());
  EXPECT_NEAR(slog_determinant(large).log.item(), 60 * 30 * std::log(10), 1e-2);
  // Half large, half small: the product is 1, though any partial product would be out of range.
  for (int64_t i = 0; i < 60; ++i) large.data<float>()[i * 61] = i < 30 ? 0x1p+100F : 0x1p-100F;
  EXPECT_EQ(determinant(large).item(), 1);
}

TEST(Linalg, RefusesNanAndInfinityWithTheirPlace) {
  Tensor a = ones({2, 3, 3});
  a.data<float>()[13] = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [&](auto&& function) {
    const Error error = error_of([&] { (void)function(a); });
    EXPECT_EQ(error.code(), ErrorCode::kNumerical);
    EXPECT_THAT(error.what(), HasSubstr("found nan at element 13 of [2, 3, 3]"));
  };
  refused([](const Tensor& x) { return qr(x); });
  refused([](const Tensor& x) { return svd(x); });
  refused([](const Tensor& x) { return lu(x); });
  refused([](const Tensor& x) { return cholesky(x); });
  refused([](const Tensor& x) { return eigh(x); });
  refused([](const Tensor& x) { return eig(x); });
  refused([](const Tensor& x) { return inverse(x); });
  refused([](const Tensor& x) { return determinant(x); });
  refused([](const Tensor& x) { return solve(x, ones({3})); });
  const Tensor infinite = full({3}, std::numeric_limits<double>::infinity());
  EXPECT_EQ(error_of([&] { (void)solve(eye(3), infinite); }).code(), ErrorCode::kNumerical);
}

TEST(Linalg, RefusesOtherOperands) {
  EXPECT_EQ(error_of([] { (void)qr(Tensor()); }).code(), ErrorCode::kInvalidTensor);
  EXPECT_EQ(error_of([] { (void)qr(zeros({3, 3}, DType::kF16)); }).code(), ErrorCode::kDTypeMismatch);
  EXPECT_EQ(error_of([] { (void)qr(zeros({3})); }).code(), ErrorCode::kShapeMismatch);
  const Error error = error_of([] { (void)inverse(zeros({2, 3})); });
  EXPECT_EQ(error.code(), ErrorCode::kShapeMismatch);
  EXPECT_EQ(error.operation(), "inverse");
  EXPECT_EQ(error_of([] { (void)matrix_rank(zeros({2, 3}), -1); }).code(), ErrorCode::kInvalidArgument);
}

TEST(Linalg, ThreadsDoNotDisturbEachOther) {
  const Tensor a = randn(Shape{32, 32}, {8}, DType::kF64);
  const std::vector<double> wanted = to_vector<double>(inverse(a)), values = to_vector<double>(svd(a).s);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        if (to_vector<double>(inverse(a)) != wanted || to_vector<double>(svd(a).s) != values) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace bitnet
