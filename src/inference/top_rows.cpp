#include "inference/top_rows.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace bitnet {
namespace {
constexpr float kNothing = -std::numeric_limits<float>::infinity();
}

void TopRows::reset(int64_t k, std::span<const int32_t> excluded) {
  k_ = static_cast<size_t>(k);
  excluded_ = excluded;
  threshold_ = kNothing;
  lowers_.clear();
  survivors_.clear();
}

void TopRows::add(int64_t first, std::span<const float> lower, std::span<const float> upper) {
  constexpr size_t kStep = 32;
  for (size_t begin = 0; begin < lower.size(); begin += kStep) {
    const size_t end = std::min(begin + kStep, lower.size());
    // Nearly always nothing reaches the threshold: a loop that compilers vectorize. A NaN does reach it.
    int reached = 0;
    for (size_t i = begin; i < end; ++i) reached |= static_cast<int>(!(upper[i] < threshold_));
    if (reached == 0) continue;
    for (size_t i = begin; i < end; ++i)
      consider(static_cast<int32_t>(first + static_cast<int64_t>(i)), lower[i], upper[i]);
  }
}

void TopRows::consider(int32_t row, float lower, float upper) {
  if (upper < threshold_) return;
  while (!excluded_.empty() && excluded_.front() < row) excluded_ = excluded_.subspan(1);
  if (!excluded_.empty() && excluded_.front() == row) return;
  survivors_.push_back({row, lower, upper});
  if (!(lower > threshold_)) return;
  lowers_.push_back(lower);
  std::push_heap(lowers_.begin(), lowers_.end(), std::greater<>());
  if (lowers_.size() > k_) {
    std::pop_heap(lowers_.begin(), lowers_.end(), std::greater<>());
    lowers_.pop_back();
  }
  if (lowers_.size() == k_) threshold_ = lowers_.front();
}

std::vector<TopRows::Interval> TopRows::merge(std::span<const TopRows> parts) {
  std::vector<float> lowers;
  for (const TopRows& part : parts) lowers.insert(lowers.end(), part.lowers_.begin(), part.lowers_.end());
  float threshold = kNothing;
  const size_t k = parts.front().k_;
  if (lowers.size() >= k) {
    const auto last = lowers.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(lowers.begin(), last, lowers.end(), std::greater<>());
    threshold = *last;
  }
  std::vector<Interval> rows;
  for (const TopRows& part : parts) {
    for (const Interval& survivor : part.survivors_) {
      if (!(survivor.upper < threshold)) rows.push_back(survivor);
    }
  }
  return rows;
}

}  // namespace bitnet
