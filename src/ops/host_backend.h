#pragma once

// The back ends of the host. Scalar and simd differ in their kernels only.

#include "ops/kernels.h"

#include <memory>

namespace bitnet::ops {

/// Plain loops, compiled without vectors: the oracle, and the baseline of measurements.
[[nodiscard]] const KernelSet& scalar_kernels();

/// Highway, for the best instruction set of this machine. Has kernels for the types and operations that
/// profit.
[[nodiscard]] const KernelSet& simd_kernels();
/// f32 multiply-adds per second of one core, two operations each, from registers.
[[nodiscard]] double measure_multiply_adds();

[[nodiscard]] std::unique_ptr<const Backend> make_scalar_backend();
[[nodiscard]] std::unique_ptr<const Backend> make_simd_backend();
/// Products and convolutions of floats through OpenBLAS.
[[nodiscard]] std::unique_ptr<const Backend> make_blas_backend();

}  // namespace bitnet::ops
