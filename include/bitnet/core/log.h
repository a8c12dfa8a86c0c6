#pragma once

#include <functional>
#include <string_view>

namespace bitnet {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

/// Receives every message at or above the level. Called from any thread, one call at a time.
using LogCallback = std::function<void(LogLevel, std::string_view message)>;

/// Logging is off until a callback is set. The library never prints by itself.
void set_log_callback(LogCallback callback, LogLevel level = LogLevel::kInfo);

[[nodiscard]] bool log_enabled(LogLevel level);
void log_message(LogLevel level, std::string_view message);

}  // namespace bitnet
