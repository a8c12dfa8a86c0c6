#pragma once

// The one routine of BLAS that operations need: a Fortran symbol that every flavour has (32-bit integers,
// column-major, character lengths behind the last argument).

#include <cstddef>
#include <mutex>

namespace bitnet::blas {

extern "C" {
void sgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
            const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
            const float* beta, float* c, const int* ldc, size_t, size_t);
void dgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
            const double* alpha, const double* a, const int* lda, const double* b, const int* ldb,
            const double* beta, double* c, const int* ldc, size_t, size_t);
}

/// Held during every call of BLAS and LAPACK.
///
/// The first tells OpenBLAS to use one thread: our pool splits the work, and results must not depend on the
/// number of threads. Holds for other users of the library in the process too.
///
/// A flavour of OpenBLAS that was built without threads hands two callers the same scratch memory unless it
/// was built with USE_LOCKING (Debian's libopenblas0-serial 0.3.21 was not: wrong products, measured with
/// sgemm on 8 threads). There one call runs at a time, and the log says so once. Threaded flavours do not
/// wait.
class CallGuard {
 public:
  CallGuard();

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace bitnet::blas
