#pragma once

#include "terminal.h"

namespace bitnet::cli {

/// `bench targets`: the goals of the tensor core, each measured beside its baseline. `quick` leaves out what
/// takes longer than some seconds, and repeats less.
[[nodiscard]] Json measure_targets(bool quick);
[[nodiscard]] std::string targets_table(const Json& rows);

/// `bench tensor`: one transformer layer on general tensors: time, and which operations copied.
[[nodiscard]] Json measure_tensor_workload();
[[nodiscard]] std::string tensor_table(const Json& json);

}  // namespace bitnet::cli
