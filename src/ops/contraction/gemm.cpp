#include "ops/contraction/gemm.h"

#include "ops/blas.h"

#include <algorithm>

namespace bitnet::ops {
namespace {

/// Multiple of the tiles of every kernel of OpenBLAS (up to 64 by 24, counted from the beginning; 24 only
/// along the side that is not unrolled in multiples of 16).
constexpr int64_t kTile = 64;
/// Multiply-adds of a part: four times the product below which OpenBLAS 0.3 takes kernels for small matrices
/// (100^3), and some 0.1 ms of work.
constexpr int64_t kLeastWork = int64_t{1} << 22;

void call(const char* ta, const char* tb, const int* m, const int* n, const int* k, const float* a,
          const int* lda, const float* b, const int* ldb, float* c, const int* ldc) {
  const float one = 1, zero = 0;
  blas::sgemm_(ta, tb, m, n, k, &one, a, lda, b, ldb, &zero, c, ldc, 1, 1);
}
void call(const char* ta, const char* tb, const int* m, const int* n, const int* k, const double* a,
          const int* lda, const double* b, const int* ldb, double* c, const int* ldc) {
  const double one = 1, zero = 0;
  blas::dgemm_(ta, tb, m, n, k, &one, a, lda, b, ldb, &zero, c, ldc, 1, 1);
}

}  // namespace

template <class Real>
void gemm(const GemmProblem<Real>& problem) {
  blas::use_one_thread();
  // BLAS is column-major: what it sees are the transposes, and y^T = b^T a^T.
  const auto m = static_cast<int>(problem.columns), n = static_cast<int>(problem.rows),
             k = static_cast<int>(problem.depth);
  const auto lda = static_cast<int>(problem.a.stride), ldb = static_cast<int>(problem.b.stride),
             ldc = static_cast<int>(problem.y_stride);
  call(problem.b.transposed ? "T" : "N", problem.a.transposed ? "T" : "N", &m, &n, &k, problem.b.data, &ldb,
       problem.a.data, &lda, problem.y, &ldc);
}

int64_t gemm_parts(int64_t rows, int64_t depth, int64_t columns, int threads) {
  const int64_t longer = std::max(rows, columns), shorter = std::min(rows, columns);
  const int64_t least_units = (kLeastWork / (shorter * depth) + kTile) / kTile;  // of a part, in tiles
  return std::clamp<int64_t>(longer / kTile / least_units, 1, threads);
}

template <class Real>
GemmProblem<Real> gemm_part(const GemmProblem<Real>& problem, int64_t part, int64_t parts) {
  const bool by_rows = problem.rows >= problem.columns;
  const int64_t length = by_rows ? problem.rows : problem.columns;
  const int64_t units = length / kTile;  // the rest goes to the last part
  const int64_t begin = units * part / parts * kTile;
  const int64_t end = part + 1 == parts ? length : units * (part + 1) / parts * kTile;
  GemmProblem<Real> result = problem;
  if (by_rows) {
    result.rows = end - begin;
    result.a.data += begin * (problem.a.transposed ? 1 : problem.a.stride);
    result.y += begin * problem.y_stride;
  } else {
    result.columns = end - begin;
    result.b.data += begin * (problem.b.transposed ? problem.b.stride : 1);
    result.y += begin;
  }
  return result;
}

int threads_of(const ExecutionContext& context) {
  if (context.threads == 1) return 1;
  const int available = context.thread_pool().size();
  return context.threads == 0 ? available : std::min(context.threads, available);
}

template void gemm(const GemmProblem<float>& problem);
template void gemm(const GemmProblem<double>& problem);
template GemmProblem<float> gemm_part(const GemmProblem<float>& problem, int64_t part, int64_t parts);
template GemmProblem<double> gemm_part(const GemmProblem<double>& problem, int64_t part, int64_t parts);

}  // namespace bitnet::ops
