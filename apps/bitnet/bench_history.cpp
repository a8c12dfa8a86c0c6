#include "bench_history.h"

#include "bitnet/core/error.h"
#include "text.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

namespace bitnet::cli {
namespace {

constexpr int kRuns = 10;  // enough for a median that one bad run does not move

bool alike(const Json& a, const Json& b) {
  const auto same = [&](const char* key) { return a.value(key, Json()) == b.value(key, Json()); };
  return std::ranges::all_of(
      std::initializer_list<const char*>{"cpu", "model", "isa", "kv", "exact_head", "build"}, same);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

std::vector<Json> read_history(const std::string& path) {
  std::vector<Json> runs;
  if (!std::filesystem::exists(path)) return runs;
  const std::string text = read_input(path);
  size_t line = 1;
  for (size_t begin = 0; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    runs.push_back(parse_bench(std::string_view(text).substr(begin, end - begin),
                               fmt::format("line {} of {}", line, path)));
    begin = end + 1;
  }
  return runs;
}

Baseline baseline_of(const std::vector<Json>& history, const Json& now) {
  Baseline result;
  std::map<std::string, std::vector<double>> values;  // of what was measured now
  for (const Measured& measured : measured_in(now)) values[measured.name];
  for (auto run = history.rbegin(); run != history.rend() && result.runs < kRuns; ++run) {
    if (!alike(*run, now)) continue;
    bool counts = false;
    for (const Measured& measured : measured_in(*run)) {
      const auto known = values.find(measured.name);
      if (known == values.end()) continue;
      known->second.push_back(measured.value);
      counts = true;
    }
    result.runs += counts ? 1 : 0;
  }
  for (Measured& measured : measured_in(now)) {
    const std::vector<double>& earlier = values[measured.name];
    if (earlier.empty()) continue;
    measured.value = median(earlier);
    result.medians.push_back(std::move(measured));
  }
  return result;
}

void append_history(const std::string& path, Json run) {
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  run["time"] = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
  const std::string line = run.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) {
    throw Error(ErrorCode::kIo, fmt::format("cannot open {}: {}", path, std::strerror(errno)),
                "check the path and its permissions");
  }
  try {
    write_all(fd, line, path);
  } catch (...) {
    ::close(fd);
    throw;
  }
  ::close(fd);
}

}  // namespace bitnet::cli
