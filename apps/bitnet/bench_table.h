#pragma once

#include "terminal.h"

#include <string>

namespace bitnet::cli {

/// The JSON of `bitnet bench` for people.
[[nodiscard]] std::string bench_table(const Json& bench);

}  // namespace bitnet::cli
