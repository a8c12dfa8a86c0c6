// Included before hwy/foreach_target.h: the instruction sets that kernels are compiled for. Baselines between
// them (SSE2, SSSE3) take the portable one, so that compile time stays at four targets.
#pragma once

#include "ops/kernels.h"

#include <string_view>
#include <vector>

// By number, because Highway 1.0.3 (Debian 12) does not name all of them: SSE2, SSSE3, AVX3_DL, AVX3_ZEN4,
// AVX3_SPR.
#define HWY_DISABLED_TARGETS                                                                             \
  ((1LL << 14) | (1LL << 12) | (1LL << 7) | (1LL << 6) | (1LL << 4) | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | \
   HWY_SVE2_128)

namespace bitnet::ops {

/// Names of the instruction sets that this machine runs, best first; and the choice among them, for tests.
[[nodiscard]] std::vector<std::string_view> simd_targets();
/// Lets simd_kernels() find kernels of that set, "" for the best again. Not while operations run.
void choose_simd_target(std::string_view name);

}  // namespace bitnet::ops
