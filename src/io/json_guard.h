#pragma once

#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace bitnet {

/// Parses untrusted JSON: refuses nesting deeper than `max_depth` objects and arrays, a key that an object
/// has twice (readers differ in which one they take), and whatever is no JSON or no UTF-8. Throws
/// kCorruptData, calling the text `what`.
[[nodiscard]] nlohmann::json parse_json_guarded(std::string_view text, int max_depth, std::string_view what);

}  // namespace bitnet
