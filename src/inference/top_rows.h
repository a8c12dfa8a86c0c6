#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// Picks, from an interval that surely holds each row's logit, every row that can be among the k highest: the
/// k-th highest lower end is a threshold that k logits reach, so that a row whose upper end lies below it is
/// out. Excluded rows neither count nor are picked. Each thread fills one of its own, in order of rows.
class TopRows {
 public:
  /// `excluded` is sorted and outlives this.
  void reset(int64_t k, std::span<const int32_t> excluded);
  /// Rows [first, first + lower.size()). NaN ends mean that nothing is known.
  void add(int64_t first, std::span<const float> lower, std::span<const float> upper);
  /// A row whose upper end lies below this is out.
  [[nodiscard]] float threshold() const { return threshold_; }
  struct Interval {
    int32_t row;
    float lower, upper;
  };
  /// The rows picked from several parts of a matrix, ascending if the parts are; all were reset alike.
  [[nodiscard]] static std::vector<Interval> merge(std::span<const TopRows> parts);

 private:
  void consider(int32_t row, float lower, float upper);

  size_t k_ = 1;
  std::span<const int32_t> excluded_;  ///< those not yet passed
  float threshold_ = 0;
  std::vector<float> lowers_;  ///< the k highest, the least of them on top of a heap
  std::vector<Interval> survivors_;
};

}  // namespace bitnet
