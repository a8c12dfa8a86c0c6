#pragma once

// The routines of LAPACK that linalg needs, declared here: the distribution's headers differ between
// LAPACKE's flavours, the Fortran symbols do not. Integers have 32 bits. Matrices are column-major with
// leading dimension ld >= max(1, rows). Each returns LAPACK's info: > 0 says where there was no result. A
// Fortran character argument has its length behind the last argument (gfortran's convention).

#include "ops/linalg/workspace.h"

#include <cstddef>

namespace bitnet::lapack {

// One block for each real type: sgetrf_ and dgetrf_ differ in a letter and the type.
// NOLINTBEGIN(bugprone-macro-parentheses): the arguments are a type and a prefix
#define BITNET_LAPACK(Real, x)                                                                             \
  extern "C" {                                                                                             \
  void x##getrf_(const int* m, const int* n, Real* a, const int* lda, int* pivots, int* info);             \
  void x##getrs_(const char* trans, const int* n, const int* nrhs, const Real* a, const int* lda,          \
                 const int* pivots, Real* b, const int* ldb, int* info, size_t);                           \
  void x##potrf_(const char* uplo, const int* n, Real* a, const int* lda, int* info, size_t);              \
  void x##geqrf_(const int* m, const int* n, Real* a, const int* lda, Real* tau, Real* work,               \
                 const int* lwork, int* info);                                                             \
  void x##orgqr_(const int* m, const int* n, const int* k, Real* a, const int* lda, const Real* tau,       \
                 Real* work, const int* lwork, int* info);                                                 \
  void x##gesdd_(const char* jobz, const int* m, const int* n, Real* a, const int* lda, Real* s, Real* u,  \
                 const int* ldu, Real* vt, const int* ldvt, Real* work, const int* lwork, int* iwork,      \
                 int* info, size_t);                                                                       \
  void x##syevd_(const char* jobz, const char* uplo, const int* n, Real* a, const int* lda, Real* w,       \
                 Real* work, const int* lwork, int* iwork, const int* liwork, int* info, size_t, size_t);  \
  void x##geev_(const char* jobvl, const char* jobvr, const int* n, Real* a, const int* lda, Real* wr,     \
                Real* wi, Real* vl, const int* ldvl, Real* vr, const int* ldvr, Real* work,                \
                const int* lwork, int* info, size_t, size_t);                                              \
  void x##gelsd_(const int* m, const int* n, const int* nrhs, Real* a, const int* lda, Real* b,            \
                 const int* ldb, Real* s, const Real* rcond, int* rank, Real* work, const int* lwork,      \
                 int* iwork, int* info);                                                                   \
  }                                                                                                        \
  inline int getrf(int m, int n, Real* a, int ld, int* pivots) {                                           \
    const blas::CallGuard guard;                                                                           \
    int info = 0;                                                                                          \
    x##getrf_(&m, &n, a, &ld, pivots, &info);                                                              \
    return info;                                                                                           \
  }                                                                                                        \
  inline int getrs(int n, int columns, const Real* a, int ld, const int* pivots, Real* b, int ldb) {       \
    const blas::CallGuard guard;                                                                           \
    int info = 0;                                                                                          \
    x##getrs_("N", &n, &columns, a, &ld, pivots, b, &ldb, &info, 1);                                       \
    return info;                                                                                           \
  }                                                                                                        \
  inline int potrf(int n, Real* a, int ld) {                                                               \
    const blas::CallGuard guard;                                                                           \
    int info = 0;                                                                                          \
    x##potrf_("L", &n, a, &ld, &info, 1);                                                                  \
    return info;                                                                                           \
  }                                                                                                        \
  inline int geqrf(int m, int n, Real* a, int ld, Real* tau) {                                             \
    return with_workspace<Real>(                                                                           \
        [&](Real* work, int size, int& info) { x##geqrf_(&m, &n, a, &ld, tau, work, &size, &info); });     \
  }                                                                                                        \
  inline int orgqr(int m, int n, int k, Real* a, int ld, const Real* tau) {                                \
    return with_workspace<Real>(                                                                           \
        [&](Real* work, int size, int& info) { x##orgqr_(&m, &n, &k, a, &ld, tau, work, &size, &info); }); \
  }                                                                                                        \
  inline int gesdd(char job, int m, int n, Real* a, int ld, Real* s, Real* u, int ldu, Real* vt, int ldvt, \
                   int* iwork) {                                                                           \
    return with_workspace<Real>([&](Real* work, int size, int& info) {                                     \
      x##gesdd_(&job, &m, &n, a, &ld, s, u, &ldu, vt, &ldvt, work, &size, iwork, &info, 1);                \
    });                                                                                                    \
  }                                                                                                        \
  inline int syevd(int n, Real* a, int ld, Real* values) {                                                 \
    return with_workspaces<Real>([&](Real* work, int size, int* iwork, int isize, int& info) {             \
      x##syevd_("V", "L", &n, a, &ld, values, work, &size, iwork, &isize, &info, 1, 1);                    \
    });                                                                                                    \
  }                                                                                                        \
  inline int geev(int n, Real* a, int ld, Real* real, Real* imaginary, Real* vectors) {                    \
    const int none = 1;                                                                                    \
    return with_workspace<Real>([&](Real* work, int size, int& info) {                                     \
      x##geev_("N", "V", &n, a, &ld, real, imaginary, nullptr, &none, vectors, &ld, work, &size, &info, 1, \
               1);                                                                                         \
    });                                                                                                    \
  }                                                                                                        \
  inline int gelsd(int m, int n, int columns, Real* a, int ld, Real* b, int ldb, Real* s, Real tolerance,  \
                   int* rank) {                                                                            \
    return with_workspaces<Real>([&](Real* work, int size, int* iwork, int, int& info) {                   \
      x##gelsd_(&m, &n, &columns, a, &ld, b, &ldb, s, &tolerance, rank, work, &size, iwork, &info);        \
    });                                                                                                    \
  }

BITNET_LAPACK(float, s)
BITNET_LAPACK(double, d)
#undef BITNET_LAPACK
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace bitnet::lapack
