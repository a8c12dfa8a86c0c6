#pragma once

// Where things lie in a group of a t53x16 matrix (quant/packed_ternary.h).

#include "kernels/kernel_table.h"

#include <cstdint>

namespace bitnet::kernels {
namespace {

constexpr int64_t kTightUnitCols = 96, kTightUnitBytes = 320;

constexpr int64_t tight_units(const TernaryMatmulArgs& a) {
  return a.padded_cols / kTightUnitCols;
}
constexpr int64_t tight_group_bytes(const TernaryMatmulArgs& a) {
  return tight_units(a) * (kTightUnitBytes - 4 * kTightUnitCols) + 4 * a.padded_cols;
}

}  // namespace
}  // namespace bitnet::kernels
