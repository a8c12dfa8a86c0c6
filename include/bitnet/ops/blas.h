#pragma once

#include <string>

namespace bitnet {

/// The OpenBLAS that computes products and factorizations in this process.
struct BlasLibrary {
  std::string config;   ///< its own words, e.g. "OpenBLAS 0.3.21 DYNAMIC_ARCH ... Cooperlake MAX_THREADS=64"
  std::string kernels;  ///< the processor that its kernels are for, e.g. "Cooperlake"
  bool concurrent = true;  ///< false: built without threads, so that one call runs at a time
  std::string advice;      ///< what would make it faster here; empty: nothing
};

[[nodiscard]] const BlasLibrary& blas_library();

}  // namespace bitnet
