#include "bench_compare.h"

#include "bitnet/core/error.h"
#include "text.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

[[noreturn]] void throw_no_bench(const std::string& path, const std::string& why) {
  throw Error(ErrorCode::kCorruptData, fmt::format("{} is no result of bitnet bench --json: {}", path, why),
              "make one with: bitnet bench --json > FILE");
}

}  // namespace

std::vector<Measured> measured_in(const Json& bench) {
  std::vector<Measured> all;
  for (const Json& row : bench.at("rows")) {
    all.push_back({fmt::format("{} {}t", row.at("test").get<std::string>(), row.at("threads").get<int>()),
                   row.at("tokens_per_second").at("median").get<double>(), true});
  }
  for (const Json& row : bench.value("startup", Json::array())) {
    for (const char* what : {"load_seconds", "first_token_seconds"}) {
      all.push_back(
          {fmt::format("{} {} {}t", what, row.at("state").get<std::string>(), row.at("threads").get<int>()),
           row.at(what).at("median").get<double>(), false});
    }
  }
  for (const Json& row : bench.value("kernels", Json::array())) {
    all.push_back(
        {fmt::format("{} {} x{} {}t", row.at("kernel").get<std::string>(), row.at("shape").get<std::string>(),
                     row.at("tokens").get<int64_t>(), row.at("threads").get<int>()),
         row.at("seconds").get<double>(), false});
  }
  return all;
}

Json parse_bench(std::string_view text, const std::string& where) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object()) throw_no_bench(where, "not a JSON object");
  try {
    for (const Measured& measured : measured_in(json)) {
      if (!(measured.value > 0)) throw_no_bench(where, fmt::format("{} is not positive", measured.name));
    }
  } catch (const Json::exception& error) {
    throw_no_bench(where, error.what());
  }
  return json;
}

Json read_bench(const std::string& path) {
  return parse_bench(read_input(path), path);
}

Json compare_benches(const std::vector<Measured>& earlier, const Json& now, const std::string& path,
                     double threshold) {
  Json rows = Json::array();
  int slower = 0;
  for (const Measured& measured : measured_in(now)) {
    for (const Measured& old : earlier) {
      if (old.name != measured.name) continue;
      const double ratio =
          measured.higher_is_better ? measured.value / old.value : old.value / measured.value;
      const bool is_slower = ratio < 1 - threshold / 100;
      slower += is_slower ? 1 : 0;
      rows.push_back({{"name", measured.name},
                      {"earlier", old.value},
                      {"now", measured.value},
                      {"ratio", ratio},
                      {"slower", is_slower}});
    }
  }
  if (rows.empty()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} holds none of the measurements made now", path),
                "give the same -p, -n, -t, --depth as in the earlier run");
  }
  return {{"with", path}, {"threshold_percent", threshold}, {"slower", slower}, {"rows", rows}};
}

}  // namespace bitnet::cli
