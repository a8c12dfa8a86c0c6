#pragma once

#include "kernels/kernel_table.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace bitnet::kernels {

/// `count` elements that end where a page without access begins: one element too far is a crash, also in SIMD
/// code that a sanitizer does not see. kAligned puts the front on 64 bytes instead, with less than 64 bytes
/// of slack.
template <class T>
class GuardedArray {
 public:
  explicit GuardedArray(int64_t count, bool aligned = false) : count_(static_cast<size_t>(count)) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = count_ * sizeof(T);
    const size_t usable = (bytes + page - 1) / page * page;
    mapped_bytes_ = usable + page;
    base_ = static_cast<std::byte*>(
        mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + usable, page, PROT_NONE) != 0) std::abort();
    const size_t end_gap = aligned ? (64 - bytes % 64) % 64 : 0;
    data_ = reinterpret_cast<T*>(base_ + usable - bytes - end_gap);
  }
  GuardedArray(const GuardedArray&) = delete;
  GuardedArray& operator=(const GuardedArray&) = delete;
  ~GuardedArray() { munmap(base_, mapped_bytes_); }

  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] std::span<T> span() { return {data_, count_}; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  void fill(T value) { std::fill_n(data_, count_, value); }

 private:
  size_t count_, mapped_bytes_;
  std::byte* base_;
  T* data_;
};

using Random = std::mt19937;

inline float uniform(Random& random, float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(random);
}

template <class Range>
void fill_uniform(Random& random, Range&& range, float low, float high) {
  for (float& value : range) value = uniform(random, low, high);
}

inline int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// Equal bit for bit, and where not, the first place.
template <class T>
testing::AssertionResult same_bits(std::span<const T> actual, std::span<const T> expected) {
  if (actual.size() != expected.size()) return testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::memcmp(&actual[i], &expected[i], sizeof(T)) != 0)
      return testing::AssertionFailure()
             << "at " << i << ": " << +actual[i] << " instead of " << +expected[i];
  }
  return testing::AssertionSuccess();
}

inline std::vector<const KernelTable*> all_runnable() {
  int count = 0;
  const KernelTable* const* tables = runnable_kernels(&count);
  return {tables, tables + count};
}

/// The oracle.
inline const KernelTable& scalar_table() {
  return *all_runnable().back();
}

/// Every test of this fixture runs on every table that this machine can run.
class KernelTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  [[nodiscard]] const KernelTable& table() const { return *GetParam(); }
};

#define BITNET_TEST_EVERY_TABLE(Fixture)                                                     \
  INSTANTIATE_TEST_SUITE_P(Isa, Fixture, testing::ValuesIn(bitnet::kernels::all_runnable()), \
                           [](const auto& suite) { return std::string(suite.param->name); })

}  // namespace bitnet::kernels
