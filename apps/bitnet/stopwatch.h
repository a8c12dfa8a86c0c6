#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace bitnet::cli {

template <class Body>
double seconds_of(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct TwoTimes {
  double ours = 0, baseline = 0;  ///< seconds of one call, medians
};

/// Times two bodies in turns, so that a machine that changes speed changes both: `rounds` times, each as
/// often in a row as lasts some milliseconds, after one call that does not count.
template <class Ours, class Baseline>
TwoTimes time_in_turns(int rounds, Ours&& ours, Baseline&& baseline) {
  constexpr double kRoundSeconds = 5e-3;
  const auto calls_per_round = [](auto&& body) {
    body();
    const double once = std::max(seconds_of(body), 1e-9);
    return std::max<int64_t>(1, static_cast<int64_t>(kRoundSeconds / once));
  };
  const int64_t our_calls = calls_per_round(ours), baseline_calls = calls_per_round(baseline);
  const auto per_call = [](int64_t calls, auto&& body) {
    return seconds_of([&] {
             for (int64_t i = 0; i < calls; ++i) body();
           }) /
           static_cast<double>(calls);
  };
  std::vector<double> a, b;
  for (int i = 0; i < rounds; ++i) {
    a.push_back(per_call(our_calls, ours));
    b.push_back(per_call(baseline_calls, baseline));
  }
  const auto median = [](std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  };
  return {median(a), median(b)};
}

}  // namespace bitnet::cli
