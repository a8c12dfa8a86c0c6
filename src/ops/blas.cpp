#include "ops/blas.h"

extern "C" void openblas_set_num_threads(int threads);  // in every flavour of OpenBLAS

namespace bitnet::blas {

void use_one_thread() {
  [[maybe_unused]] static const bool done = [] {
    openblas_set_num_threads(1);
    return true;
  }();
}

}  // namespace bitnet::blas
