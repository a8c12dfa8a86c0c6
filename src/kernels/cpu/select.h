#pragma once

#include "bitnet/kernels/cpu.h"
#include "kernels/kernel_table.h"

#include <string_view>
#include <vector>

namespace bitnet::kernels {

/// The tables of this build that a machine with these features can run, best first; scalar is always last.
[[nodiscard]] std::vector<const KernelTable*> runnable(const CpuFeatures& features);

/// The choice as a pure function: `forced` if it is among runnable(features), the best if it is empty.
/// Throws kUnsupported, naming what there is, if it is unknown or cannot run.
[[nodiscard]] const KernelTable& select(const CpuFeatures& features, std::string_view forced);

}  // namespace bitnet::kernels
