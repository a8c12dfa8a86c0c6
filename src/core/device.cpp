#include "bitnet/core/device.h"

#include <array>
#include <charconv>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"cpu", "pinned", "cuda", "metal", "mlx"};

}  // namespace

std::string to_string(Device device) {
  const std::string_view name = kNames.at(static_cast<size_t>(device.type));
  return device.type == DeviceType::kCuda ? fmt::format("{}:{}", name, device.index) : std::string(name);
}

std::optional<Device> device_from_string(std::string_view name) {
  const size_t colon = name.find(':');
  Device device;
  if (colon != std::string_view::npos) {
    const std::string_view digits = name.substr(colon + 1);
    const char* end = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), end, device.index);
    if (error != std::errc() || rest != end || device.index < 0) return std::nullopt;
  }
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name.substr(0, colon) != kNames[i]) continue;
    device.type = static_cast<DeviceType>(i);
    if (device.index != 0 && device.type != DeviceType::kCuda) return std::nullopt;
    return device;
  }
  return std::nullopt;
}

}  // namespace bitnet
