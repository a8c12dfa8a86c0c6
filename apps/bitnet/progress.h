#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace bitnet::cli {

/// A progress bar on standard error, where that is a terminal; nothing otherwise. Also the place where long
/// work learns of Ctrl-C: update() throws kCancelled. May be called from several threads.
class Progress {
 public:
  explicit Progress(std::string label);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Wipes the bar.
  ~Progress();

  void update(int64_t done, int64_t total);
  /// Wipes the bar until the next update, so that a line can be printed.
  void hide();
  /// update() as the library's callbacks want it. Refers to this object.
  [[nodiscard]] std::function<void(int64_t, int64_t)> callback();

 private:
  std::string label_;
  bool enabled_;
  bool visible_ = false;
  std::chrono::steady_clock::time_point drawn_at_;
  std::mutex mutex_;
};

}  // namespace bitnet::cli
