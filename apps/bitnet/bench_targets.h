#pragma once

#include "terminal.h"

#include <functional>
#include <string>

namespace bitnet::cli {

/// `bench targets`: the goals of the tensor core, each measured beside its baseline. `quick` leaves out what
/// takes longer than some seconds, and repeats less. `show` gets each row as soon as it is measured.
[[nodiscard]] Json measure_targets(bool quick, const std::function<void(const Json& row)>& show);
/// The machine, and the names of the columns.
[[nodiscard]] std::string targets_head();
[[nodiscard]] std::string target_line(const Json& row);

/// `bench tensor`: one transformer layer on general tensors: time, and which operations copied.
[[nodiscard]] Json measure_tensor_workload();
[[nodiscard]] std::string tensor_table(const Json& json);

}  // namespace bitnet::cli
