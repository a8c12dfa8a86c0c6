#include "ops/blas.h"

#include "bitnet/core/log.h"

// In every flavour of OpenBLAS.
extern "C" {
void openblas_set_num_threads(int threads);
int openblas_get_parallel(void);  // 0: built without threads, 1: with its own, 2: OpenMP
}

namespace bitnet::blas {
namespace {

/// True if several threads may call at once.
bool prepare() {
  openblas_set_num_threads(1);
  if (openblas_get_parallel() != 0) return true;
  log_message(LogLevel::kWarning,
              "OpenBLAS was built without threads and may not be called by several: matrix products and "
              "factorizations run one at a time; install its pthread flavour (libopenblas0-pthread)");
  return false;
}

}  // namespace

CallGuard::CallGuard() {
  static const bool concurrent = prepare();
  static std::mutex mutex;
  if (!concurrent) lock_ = std::unique_lock(mutex);
}

}  // namespace bitnet::blas
