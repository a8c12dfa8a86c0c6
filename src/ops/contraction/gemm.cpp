#include "ops/contraction/gemm.h"

#include "ops/blas.h"

#include <algorithm>

namespace bitnet::ops {
namespace {

/// A multiple of the tiles of OpenBLAS's kernels.
constexpr int64_t kTile = 64;
/// Multiply-adds of a part: more than the product below which OpenBLAS 0.3 takes kernels for small matrices
/// (100^3), and some 10 us of work.
constexpr double kLeastWork = 1 << 20;

/// Elements [begin, end) of part `part`: whole tiles, the rest in the last part.
struct Range {
  int64_t begin, end;
};
Range part_of(int64_t length, int64_t part, int64_t parts) {
  const int64_t tiles = length / kTile;
  return {tiles * part / parts * kTile, part + 1 == parts ? length : tiles * (part + 1) / parts * kTile};
}

int64_t shortest_part(int64_t length, int64_t parts) {
  return parts == 1 ? length : length / kTile / parts * kTile;
}

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
  const blas::CallGuard guard;
  // BLAS is column-major: what it sees are the transposes, and y^T = b^T a^T.
  const auto m = static_cast<int>(problem.columns), n = static_cast<int>(problem.rows),
             k = static_cast<int>(problem.depth);
  const auto lda = static_cast<int>(problem.a.stride), ldb = static_cast<int>(problem.b.stride),
             ldc = static_cast<int>(problem.y_stride);
  call(problem.b.transposed ? "T" : "N", problem.a.transposed ? "T" : "N", &m, &n, &k, problem.b.data, &ldb,
       problem.a.data, &lda, problem.y, &ldc);
}

GemmGrid gemm_grid(int64_t rows, int64_t depth, int64_t columns, int threads) {
  GemmGrid best;
  const auto packed = [&](const GemmGrid& grid) { return rows * grid.by_columns + columns * grid.by_rows; };
  for (int64_t c = 1; c <= std::clamp<int64_t>(columns / kTile, 1, threads); ++c) {
    int64_t r = std::clamp<int64_t>(rows / kTile, 1, threads / c);
    const auto least_work = [&] {
      return static_cast<double>(shortest_part(rows, r)) * static_cast<double>(shortest_part(columns, c)) *
             static_cast<double>(depth);
    };
    while (r > 1 && least_work() < kLeastWork) --r;
    if (least_work() < kLeastWork) break;  // more columns apart would leave less
    // More parts first; of as many, those that copy least into BLAS's order.
    const GemmGrid grid = {r, c};
    if (grid.parts() > best.parts() || (grid.parts() == best.parts() && packed(grid) < packed(best))) {
      best = grid;
    }
  }
  return best;
}

template <class Real>
GemmProblem<Real> gemm_part(const GemmProblem<Real>& problem, int64_t part, const GemmGrid& grid) {
  const Range rows = part_of(problem.rows, part / grid.by_columns, grid.by_rows);
  const Range columns = part_of(problem.columns, part % grid.by_columns, grid.by_columns);
  GemmProblem<Real> result = problem;
  result.rows = rows.end - rows.begin;
  result.columns = columns.end - columns.begin;
  result.a.data += rows.begin * (problem.a.transposed ? 1 : problem.a.stride);
  result.b.data += columns.begin * (problem.b.transposed ? problem.b.stride : 1);
  result.y += rows.begin * problem.y_stride + columns.begin;
  return result;
}

int threads_of(const ExecutionContext& context) {
  if (context.threads == 1) return 1;
  const int available = context.thread_pool().size();
  return context.threads == 0 ? available : std::min(context.threads, available);
}

template void gemm(const GemmProblem<float>& problem);
template void gemm(const GemmProblem<double>& problem);
template GemmProblem<float> gemm_part(const GemmProblem<float>& problem, int64_t part, const GemmGrid& grid);
template GemmProblem<double> gemm_part(const GemmProblem<double>& problem, int64_t part,
                                       const GemmGrid& grid);

}  // namespace bitnet::ops
