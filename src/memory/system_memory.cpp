#include "memory/system_memory.h"

#include <charconv>
#include <fstream>
#include <string>
#include <string_view>

namespace bitnet::memory {
namespace {

namespace fs = std::filesystem;

/// The integer after `key` at the begin of a line ("MemTotal:   123 kB", "inactive_file 42"); an empty key
/// takes the first line. Nothing if there is none ("max").
std::optional<int64_t> number(const fs::path& path, std::string_view key = {}) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t digits = line.find_first_not_of(" \t:", key.size());
    if (digits == std::string::npos) return std::nullopt;
    int64_t value = 0;
    const auto [end, error] = std::from_chars(line.data() + digits, line.data() + line.size(), value);
    if (error != std::errc{} || end == line.data() + digits) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

/// This process's group in the unified hierarchy: the line "0::/path".
std::optional<std::string> unified_group(const fs::path& membership) {
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::/")) return line.substr(4);
  }
  return std::nullopt;
}

}  // namespace

std::optional<MemoryCapacity> system_memory(const fs::path& meminfo) {
  const auto total = number(meminfo, "MemTotal"), available = number(meminfo, "MemAvailable");
  if (!total || !available) return std::nullopt;
  return MemoryCapacity{(*total - *available) * 1024, *total * 1024};
}

std::optional<MemoryCapacity> cgroup_memory(const fs::path& mount, const fs::path& membership) {
  const auto group = unified_group(membership);
  if (!group) return std::nullopt;
  std::optional<MemoryCapacity> tightest;
  fs::path folder = mount / *group;
  for (;;) {
    const auto limit = number(folder / "memory.max"), current = number(folder / "memory.current");
    if (limit && current && *limit > 0) {
      const int64_t used = *current - number(folder / "memory.stat", "inactive_file").value_or(0);
      const auto share = [](const MemoryCapacity& c) {
        return static_cast<double>(c.used_bytes) / static_cast<double>(c.total_bytes);
      };
      const MemoryCapacity here{used, *limit};
      if (!tightest || share(here) > share(*tightest)) tightest = here;
    }
    // In a container's namespace the group's path may lie outside of the mount.
    if (folder == mount || folder.native().size() <= mount.native().size()) break;
    folder = folder.parent_path();
  }
  return tightest;
}

}  // namespace bitnet::memory
