#pragma once

#include "bench_compare.h"

#include <string>
#include <vector>

namespace bitnet::cli {

/// The runs of a history file, one JSON object a line, oldest first; none if there is no such file. Throws
/// kCorruptData with the number of a line that is no result of bench.
[[nodiscard]] std::vector<Json> read_history(const std::string& path);

/// Of the last ten runs like `now` (the same CPU, model, instruction set, cache type, head and build type)
/// that measured something of what `now` has: the median of each, and how many runs there were.
struct Baseline {
  std::vector<Measured> medians;
  int runs = 0;
};
[[nodiscard]] Baseline baseline_of(const std::vector<Json>& history, const Json& now);

/// Adds a run and the time (UTC) as the last line. Throws kIo.
void append_history(const std::string& path, Json run);

}  // namespace bitnet::cli
