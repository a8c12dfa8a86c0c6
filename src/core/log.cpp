#include "bitnet/core/log.h"

#include <atomic>
#include <mutex>
#include <utility>

namespace bitnet {
namespace {

std::atomic<LogLevel> g_level{LogLevel::kOff};
std::mutex g_mutex;
LogCallback g_callback;

}  // namespace

void set_log_callback(LogCallback callback, LogLevel level) {
  const std::lock_guard lock(g_mutex);
  g_callback = std::move(callback);
  g_level = g_callback ? level : LogLevel::kOff;
}

bool log_enabled(LogLevel level) {
  return level != LogLevel::kOff && level >= g_level.load(std::memory_order_relaxed);
}

void log_message(LogLevel level, std::string_view message) {
  if (!log_enabled(level)) return;
  const std::lock_guard lock(g_mutex);
  if (g_callback) g_callback(level, message);
}

}  // namespace bitnet
