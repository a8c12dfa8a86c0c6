#pragma once

// The one routine of BLAS that operations need: a Fortran symbol that every flavour has (32-bit integers,
// column-major, character lengths behind the last argument).

#include <cstddef>

namespace bitnet::blas {

extern "C" {
void sgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
            const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
            const float* beta, float* c, const int* ldc, size_t, size_t);
void dgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
            const double* alpha, const double* a, const int* lda, const double* b, const int* ldb,
            const double* beta, double* c, const int* ldc, size_t, size_t);
}

/// Once per process: tells a threaded flavour of OpenBLAS to use one thread, for our pool splits the work,
/// and results must not depend on the number of threads. Holds for other users of the library in the process
/// too.
void use_one_thread();

}  // namespace bitnet::blas
