#include "io/json_guard.h"

#include "bitnet/core/error.h"

#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace bitnet {

nlohmann::json parse_json_guarded(std::string_view text, int max_depth, std::string_view what) {
  using Json = nlohmann::json;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto guard = [&](int depth, Json::parse_event_t event, Json& parsed) {
    const bool opens =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (opens && depth >= max_depth) {
      throw Error(ErrorCode::kCorruptData, fmt::format("{} nests deeper than {} levels", what, max_depth));
    }
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw Error(ErrorCode::kCorruptData,
                  fmt::format("{} has the key {:?} twice", what, parsed.get<std::string>()));
    }
    return true;
  };
  try {
    return Json::parse(text, guard);
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::kCorruptData, fmt::format("{} is not valid JSON: {}", what, error.what()),
                "the file is cut off or damaged; download it again");
  }
}

}  // namespace bitnet
