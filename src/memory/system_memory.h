#pragma once

#include "bitnet/memory/source.h"

#include <filesystem>
#include <optional>

namespace bitnet::memory {

/// MemTotal - MemAvailable of Linux's meminfo; nothing if it cannot be read.
[[nodiscard]] std::optional<MemoryCapacity> system_memory(
    const std::filesystem::path& meminfo = "/proc/meminfo");

/// The tightest limit (highest use) on the way from this process's cgroup (version 2) up to the root. Used
/// bytes are memory.current less inactive_file, which the kernel drops before anything fails, as the kubelet
/// counts. Nothing without a limit.
[[nodiscard]] std::optional<MemoryCapacity> cgroup_memory(
    const std::filesystem::path& mount = "/sys/fs/cgroup",
    const std::filesystem::path& membership = "/proc/self/cgroup");

}  // namespace bitnet::memory
