#include "progress.h"

#include "interrupt.h"
#include "terminal.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr int kWidth = 30;
constexpr std::chrono::milliseconds kRedrawInterval{100};

}  // namespace

// The first redraw comes one interval after the start: work shorter than that shows no bar at all.
Progress::Progress(std::string label)
    : label_(std::move(label)), enabled_(stderr_is_terminal()), drawn_at_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  hide();
}

void Progress::update(int64_t done, int64_t total) {
  throw_if_interrupted();
  if (!enabled_ || total <= 0) return;
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (now - drawn_at_ < kRedrawInterval) return;
  drawn_at_ = now;
  visible_ = true;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const int filled = static_cast<int>(share * kWidth);
  write_err(
      fmt::format("\r{} [{:#<{}}{:.<{}}] {:3.0f} %", label_, "", filled, "", kWidth - filled, share * 100));
}

void Progress::hide() {
  const std::lock_guard lock(mutex_);
  if (!visible_) return;
  visible_ = false;
  write_err(fmt::format("\r{:{}}\r", "", label_.size() + kWidth + 10));
}

std::function<void(int64_t, int64_t)> Progress::callback() {
  return [this](int64_t done, int64_t total) { update(done, total); };
}

}  // namespace bitnet::cli
