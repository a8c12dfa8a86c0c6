#pragma once

#include "terminal.h"

#include <string>
#include <string_view>
#include <vector>

namespace bitnet::cli {

/// Something in a run that has a direction.
struct Measured {
  std::string name;
  double value = 0;
  bool higher_is_better = true;
};

/// Speeds, start-up times and kernels of what `bitnet bench --json` printed. Throws kCorruptData, naming
/// `where`, if the text is none.
[[nodiscard]] Json parse_bench(std::string_view text, const std::string& where);
[[nodiscard]] std::vector<Measured> measured_in(const Json& bench);

/// The JSON that an earlier `bitnet bench --json` printed into a file. Throws kNotFound, kCorruptData.
[[nodiscard]] Json read_bench(const std::string& path);

/// Compares the medians of what both runs measured (by name, threads and so on):
///   {"with", "threshold_percent", "slower", "rows": [{"name", "earlier", "now", "ratio", "slower"}]}
/// ratio > 1 is faster now; a row is slower if its ratio is below 1 - threshold / 100, and "slower" counts
/// them. Throws kInvalidArgument if the runs have nothing in common.
[[nodiscard]] Json compare_benches(const std::vector<Measured>& earlier, const Json& now,
                                   const std::string& path, double threshold);

}  // namespace bitnet::cli
