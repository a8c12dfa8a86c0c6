#pragma once

#include "bitnet/model/precision_policy.h"
#include "inspect_container.h"
#include "terminal.h"

#include <string>

namespace bitnet::cli {

/// The policy of that name, or of the JSON file at that path. Throws kNotFound for neither.
[[nodiscard]] PrecisionPolicy read_policy(const std::string& name_or_path);

[[nodiscard]] PrecisionPlan plan_precision(const PrecisionPolicy& policy, const Container& container);

/// {"name", "base", "tensors": [...], "components": {...}, "totals": {"bytes_now", "bytes_then"}}
[[nodiscard]] Json precision_json(const PrecisionPolicy& policy, const PrecisionPlan& plan);
[[nodiscard]] std::string precision_text(const PrecisionPolicy& policy, const PrecisionPlan& plan);

}  // namespace bitnet::cli
