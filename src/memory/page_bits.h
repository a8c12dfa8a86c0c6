#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace bitnet::memory {

/// A set of page numbers.
class PageBits {
 public:
  PageBits() = default;
  explicit PageBits(size_t pages) : words_((pages + 63) / 64) {}

  /// Adds [first, last) and returns how many were new.
  size_t set(size_t first, size_t last) {
    size_t added = 0;
    for_each_word(first, last, [&](uint64_t& word, uint64_t mask) {
      added += static_cast<size_t>(std::popcount(mask & ~word));
      word |= mask;
    });
    return added;
  }
  /// How many of [first, last) are no members.
  [[nodiscard]] size_t missing(size_t first, size_t last) const {
    size_t count = 0;
    while (first < last) {
      const size_t bit = first % 64, bits = std::min(64 - bit, last - first);
      count +=
          static_cast<size_t>(std::popcount(~words_[first / 64] & ((~uint64_t{0} >> (64 - bits)) << bit)));
      first += bits;
    }
    return count;
  }
  void clear(size_t first, size_t last) {
    for_each_word(first, last, [](uint64_t& word, uint64_t mask) { word &= ~mask; });
  }
  /// Calls body(begin, end) for each maximal run of members in [first, last). The body may clear that run.
  template <class Body>
  void for_each_run(size_t first, size_t last, Body&& body) const {
    for (size_t begin = next(first, last, true); begin < last;) {
      const size_t end = next(begin, last, false);
      body(begin, end);
      begin = next(end, last, true);
    }
  }

 private:
  template <class Body>
  void for_each_word(size_t first, size_t last, Body&& body) {
    while (first < last) {
      const size_t bit = first % 64, count = std::min(64 - bit, last - first);
      body(words_[first / 64], (~uint64_t{0} >> (64 - count)) << bit);
      first += count;
    }
  }
  /// First page in [first, last) that is a member (or is none), else `last`.
  [[nodiscard]] size_t next(size_t first, size_t last, bool member) const {
    while (first < last) {
      const uint64_t word = (member ? words_[first / 64] : ~words_[first / 64]) >> (first % 64);
      if (word != 0) return std::min(last, first + static_cast<size_t>(std::countr_zero(word)));
      first = (first / 64 + 1) * 64;
    }
    return last;
  }

  std::vector<uint64_t> words_;
};

}  // namespace bitnet::memory
