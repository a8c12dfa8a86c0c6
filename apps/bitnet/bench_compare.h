#pragma once

#include "terminal.h"

#include <string>

namespace bitnet::cli {

/// The JSON that an earlier `bitnet bench --json` printed. Throws kNotFound, or kCorruptData if the file is
/// none.
[[nodiscard]] Json read_bench(const std::string& path);

/// Compares the medians of what both runs measured (speeds, start-up times, kernels; by name, threads and so
/// on):
///   {"with", "threshold_percent", "slower", "rows": [{"name", "earlier", "now", "ratio", "slower"}]}
/// ratio > 1 is faster now; a row is slower if its ratio is below 1 - threshold / 100, and "slower" counts
/// them. Throws kInvalidArgument if the runs have nothing in common.
[[nodiscard]] Json compare_benches(const Json& earlier, const Json& now, const std::string& path,
                                   double threshold);

}  // namespace bitnet::cli
