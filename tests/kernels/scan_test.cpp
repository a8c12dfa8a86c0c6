#include "kernel_test.h"

#include <cmath>

namespace bitnet::kernels {
namespace {

constexpr float kUntouched = -12345.5f;

enum class Fill { kRandom, kHighest, kLowest };

constexpr int64_t kUnitCols = 128, kUnitBytes = 1088;

/// Of x = 16383, -16383 or any between.
struct Digits {
  explicit Digits(int x) : hi(static_cast<int8_t>(x >> 7)), lo(static_cast<int8_t>(x & 127)) {}
  int8_t hi, lo;
};

/// A group as kernel_table.h lays it out.
struct I4Group {
  const uint8_t* bytes;

  [[nodiscard]] int code(int64_t row, int64_t col) const {
    const uint8_t* block = bytes + col / kUnitCols * kUnitBytes + col % kUnitCols / 32 * 256;
    const int byte = block[64 * (col % 32 / 8) + 4 * row + col % 4];
    return col % 8 < 4 ? byte % 16 : byte / 16;
  }
  [[nodiscard]] float multiplier(int64_t row, int64_t block) const {
    return bytes[block / 4 * kUnitBytes + 1024 + block % 4 * 16 + row];
  }
};

struct Scanned {
  float y = 0, bound = 0;
};

/// y and bound of one row as kernel_table.h defines them.
Scanned scan_row(const I4Group& group, int64_t row, int64_t cols, const int* x, const int32_t* offset,
                 const float* weight) {
  Scanned result;
  for (int64_t b = 0; b < cols / 32; ++b) {
    int64_t sum = offset[b];
    for (int64_t k = 32 * b; k < 32 * (b + 1); ++k) sum += int64_t{group.code(row, k)} * x[k];
    const float m = group.multiplier(row, b);
    result.y = std::fma(m, static_cast<float>(sum), result.y);
    result.bound = std::fma(m * m, weight[b], result.bound);
  }
  result.bound = std::sqrt(result.bound);
  return result;
}

int activation(Random& random, Fill fill) {
  if (fill != Fill::kRandom) return fill == Fill::kHighest ? 16383 : -16383;
  return static_cast<int>(random() % 32767) - 16383;
}

void check(const KernelTable& table, int64_t groups, int64_t units, int64_t tokens, Fill fill) {
  Random random(static_cast<uint32_t>(groups + 7 * units + 31 * tokens));
  const int64_t group_bytes = units * kUnitBytes, cols = units * kUnitCols, x_stride = cols + 64;
  GuardedArray<uint8_t> weights(groups * group_bytes, true);
  for (int64_t i = 0; i < groups * group_bytes; ++i) {
    const auto byte = static_cast<uint8_t>(fill == Fill::kRandom ? random() : 255);
    weights[i] = i % kUnitBytes < 1024 ? byte : byte & 127;
  }
  GuardedArray<int8_t> hi(tokens * x_stride, true), lo(tokens * x_stride, true);
  const int64_t block_stride = cols / 32 + 3, rows = 16 * groups, y_stride = rows + 5;
  std::vector<int32_t> offset(static_cast<size_t>(tokens * block_stride));
  std::vector<float> weight(offset.size());
  std::vector<int> x(static_cast<size_t>(tokens * cols));
  fill_uniform(random, weight, 0, 10);
  for (int64_t i = 0; i < tokens * cols; ++i) {
    const int64_t t = i / cols, k = i % cols;
    const int value = activation(random, fill);
    const Digits digits(value);
    x[static_cast<size_t>(i)] = value;
    hi[t * x_stride + k] = digits.hi;
    lo[t * x_stride + k] = digits.lo;
    offset[static_cast<size_t>(t * block_stride + k / 32)] -= 7 * value;
  }
  GuardedArray<float> y(tokens * y_stride), bound(tokens * y_stride);
  y.fill(kUntouched);
  bound.fill(kUntouched);
  const int64_t first = groups > 1 ? 1 : 0;
  table.scan_i4({weights.data(), units, first, groups, tokens, hi.data(), lo.data(), x_stride, offset.data(),
                 weight.data(), block_stride, y.data(), bound.data(), y_stride});
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t row = 16 * first; row < rows; ++row) {
      const Scanned expected =
          scan_row({weights.data() + row / 16 * group_bytes}, row % 16, cols, x.data() + t * cols,
                   offset.data() + t * block_stride, weight.data() + t * block_stride);
      const int64_t place = t * y_stride + row - 16 * first;
      ASSERT_EQ(bits_of(y[place]), bits_of(expected.y)) << "row " << row;
      ASSERT_EQ(bits_of(bound[place]), bits_of(expected.bound)) << "row " << row;
    }
    ASSERT_EQ(y[t * y_stride + rows - 16 * first], kUntouched);
    ASSERT_EQ(bound[t * y_stride + rows - 16 * first], kUntouched);
  }
}

class HeadScan : public KernelTest {};
BITNET_TEST_EVERY_TABLE(HeadScan);

TEST_P(HeadScan, FollowsItsDefinition) {
  for (const int64_t units : {1, 2, 5, 20}) {
    for (const int64_t tokens : {1, 2, 3, 4, 7, 9}) {
      for (const int64_t groups : {1, 2, 3}) check(table(), groups, units, tokens, Fill::kRandom);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(HeadScan, TakesExtremes) {
  for (const Fill fill : {Fill::kHighest, Fill::kLowest}) {
    check(table(), 3, 3, 1, fill);
    check(table(), 3, 3, 5, fill);
    check(table(), 1, 511, 1, fill);
  }
}

}  // namespace
}  // namespace bitnet::kernels
