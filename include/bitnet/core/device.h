#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bitnet {

enum class DeviceType : uint8_t {
  kCpu,
  kPinned,  ///< host memory that a GPU reads and writes directly; computes like kCpu
  kCuda,
  kMetal,  ///< not built: needs Apple's Metal, which no machine of this project has
  kMlx,    ///< not built: needs Apple's MLX, likewise
};

/// Where bytes lie. What a device can do: bitnet/ops/device_registry.h.
struct Device {
  DeviceType type = DeviceType::kCpu;
  int32_t index = 0;

  friend bool operator==(const Device&, const Device&) = default;
};

inline constexpr Device kCpuDevice{DeviceType::kCpu, 0};

/// True if the processor can read and write the device's memory through a pointer.
[[nodiscard]] constexpr bool is_host(Device device) {
  return device.type == DeviceType::kCpu || device.type == DeviceType::kPinned;
}

/// "cpu", "pinned", "cuda:0", ...
[[nodiscard]] std::string to_string(Device device);
/// The device of that name ("cuda" is "cuda:0"), or nothing. Does not ask whether it is there.
[[nodiscard]] std::optional<Device> device_from_string(std::string_view name);

}  // namespace bitnet
