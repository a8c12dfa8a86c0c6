#include "bitnet/core/half.h"
#include "kernel_test.h"

#include <cmath>

namespace bitnet::kernels {
namespace {

constexpr float kUntouched = -12345.5f;

enum class Fill { kRandom, kHighest, kLowest };

int8_t activation(Random& random, Fill fill) {
  if (fill == Fill::kHighest) return 127;
  if (fill == Fill::kLowest) return -127;
  return static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
}

/// hi and lo of `tokens` tokens, zero from cols on.
struct Activations {
  Activations(Random& random, int64_t cols, int64_t count, Fill fill)
      : stride(round_up(cols, 64)), hi(count * stride, true), lo(count * stride, true) {
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t c = 0; c < cols; ++c) {
        hi[t * stride + c] = activation(random, fill);
        lo[t * stride + c] = activation(random, fill);
      }
    }
  }

  int64_t stride;
  GuardedArray<int8_t> hi, lo;
};

/// A Q6_K group as kernel_table.h lays it out.
struct Q6Group {
  const uint8_t* bytes;
  int64_t blocks;

  [[nodiscard]] int code(int64_t row, int64_t col) const {
    const uint8_t* four = bytes + col / 256 * 3328 + col % 256 / 16 * 192 + 4 * row + col % 4;
    const int64_t u = col % 16 / 4;
    if (u < 3) return four[64 * u] % 64;
    return four[0] / 64 + four[64] / 64 * 4 + four[128] / 64 * 16;
  }
  [[nodiscard]] float scale(int64_t row, int64_t sub_block) const {
    const uint8_t* scales = bytes + sub_block / 16 * 3328 + 16 * 192;
    return static_cast<float>(static_cast<int8_t>(scales[sub_block % 16 * 16 + row]));
  }
  [[nodiscard]] float step(int64_t row, int64_t block) const {
    const uint8_t* d = bytes + blocks * 3328 + 2 * (16 * block + row);
    return f16_to_f32(static_cast<uint16_t>(d[0] | d[1] << 8));
  }
};

struct Scanned {
  float y = 0, bound = 0;
};

/// y and bound of one row as kernel_table.h defines them.
Scanned scan_row(const Q6Group& group, int64_t row, const int8_t* hi, const int8_t* lo, const int32_t* offset,
                 const float* weight) {
  Scanned result;
  for (int64_t b = 0; b < group.blocks; ++b) {
    Scanned block;
    for (int64_t j = 16 * b; j < 16 * (b + 1); ++j) {
      int64_t sum = offset[j];
      for (int64_t k = 16 * j; k < 16 * (j + 1); ++k) sum += group.code(row, k) * (128 * hi[k] + lo[k]);
      const float scale = group.scale(row, j);
      block.y = std::fma(scale, static_cast<float>(sum), block.y);
      block.bound = std::fma(std::fabs(scale), weight[j], block.bound);
    }
    const float d = group.step(row, b);
    result.y = std::fma(d, block.y, result.y);
    result.bound = std::fma(std::fabs(d), block.bound, result.bound);
  }
  return result;
}

/// Of x = 16383, -16383 or any between.
struct Digits {
  explicit Digits(int x) : hi(static_cast<int8_t>(x >> 7)), lo(static_cast<int8_t>(x & 127)) {}
  int8_t hi, lo;
};

int q6_activation(Random& random, Fill fill) {
  if (fill != Fill::kRandom) return fill == Fill::kHighest ? 16383 : -16383;
  return static_cast<int>(random() % 32767) - 16383;
}

void check_q6_k(const KernelTable& table, int64_t groups, int64_t cols, int64_t tokens, Fill fill) {
  Random random(static_cast<uint32_t>(groups + 7 * cols + 31 * tokens));
  const int64_t blocks = cols / 256, group_bytes = round_up(blocks * 3360, 64), stride = round_up(cols, 64);
  GuardedArray<uint8_t> weights(groups * group_bytes, true);
  for (int64_t i = 0; i < groups * group_bytes; ++i) {
    const int64_t place = i % group_bytes;
    weights[i] = static_cast<uint8_t>(random());
    if (fill != Fill::kRandom && place < blocks * 3328) weights[i] = place % 3328 < 3072 ? 0xff : 0x80;
    if (place >= blocks * 3328 && place % 2 == 1) weights[i] &= 0xbf;  // finite
  }
  GuardedArray<int8_t> hi(tokens * stride, true), lo(tokens * stride, true);
  const int64_t sub_blocks = cols / 16 + 3, rows = 16 * groups, y_stride = rows + 5;
  std::vector<int32_t> offset(static_cast<size_t>(tokens * sub_blocks));
  std::vector<float> weight(offset.size());
  fill_uniform(random, weight, 0, 10);
  for (int64_t i = 0; i < tokens * cols; ++i) {
    const int64_t t = i / cols, k = i % cols;
    const int x = q6_activation(random, fill);
    const Digits digits(x);
    hi[t * stride + k] = digits.hi;
    lo[t * stride + k] = digits.lo;
    offset[static_cast<size_t>(t * sub_blocks + k / 16)] -= 32 * x;
  }
  GuardedArray<float> y(tokens * y_stride), bound(tokens * y_stride);
  y.fill(kUntouched);
  bound.fill(kUntouched);
  const int64_t first = groups > 1 ? 1 : 0;
  table.scan_q6_k({weights.data(), group_bytes, cols, first, groups, tokens, hi.data(), lo.data(), stride,
                   offset.data(), weight.data(), sub_blocks, y.data(), bound.data(), y_stride});
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t row = 16 * first; row < rows; ++row) {
      const Scanned expected =
          scan_row({weights.data() + row / 16 * group_bytes, blocks}, row % 16, hi.data() + t * stride,
                   lo.data() + t * stride, offset.data() + t * sub_blocks, weight.data() + t * sub_blocks);
      const int64_t place = t * y_stride + row - 16 * first;
      ASSERT_EQ(bits_of(y[place]), bits_of(expected.y)) << "row " << row;
      ASSERT_EQ(bits_of(bound[place]), bits_of(expected.bound)) << "row " << row;
    }
    ASSERT_EQ(y[t * y_stride + rows - 16 * first], kUntouched);
    ASSERT_EQ(bound[t * y_stride + rows - 16 * first], kUntouched);
  }
}

void check_i8(const KernelTable& table, int64_t groups, int64_t cols, int64_t tokens, Fill fill) {
  Random random(static_cast<uint32_t>(groups + 7 * cols + 31 * tokens));
  const int64_t padded = round_up(cols, 4), rows = 16 * groups, y_stride = rows + 3;
  GuardedArray<uint8_t> weights(rows * padded, true);
  for (int64_t i = 0; i < rows * padded; ++i) {
    weights[i] = static_cast<uint8_t>(1 + random() % 255);
    if (fill != Fill::kRandom) weights[i] = i % 3 == 0 ? 1 : 255;
  }
  const Activations x(random, cols, tokens, fill);
  std::vector<int32_t> hi_sum(static_cast<size_t>(tokens)), lo_sum(hi_sum.size());
  for (int64_t i = 0; i < tokens * x.stride; ++i) {
    hi_sum[static_cast<size_t>(i / x.stride)] += x.hi[i];
    lo_sum[static_cast<size_t>(i / x.stride)] += x.lo[i];
  }
  GuardedArray<float> y(tokens * y_stride);
  y.fill(kUntouched);
  const int64_t first = groups > 1 ? 1 : 0;
  table.scan_i8({weights.data(), padded, first, groups, tokens, x.hi.data(), x.lo.data(), x.stride,
                 hi_sum.data(), lo_sum.data(), y.data(), y_stride});
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t row = 16 * first; row < rows; ++row) {
      int32_t h = 0, l = 0;
      for (int64_t k = 0; k < cols; ++k) {
        const int64_t place = 16 * padded * (row / 16) + 64 * (k / 4) + 4 * (row % 16) + k % 4;
        h += (weights[place] - 128) * x.hi[t * x.stride + k];
        l += (weights[place] - 128) * x.lo[t * x.stride + k];
      }
      const float expected = std::fma(254.0f, static_cast<float>(h), static_cast<float>(l));
      ASSERT_EQ(bits_of(y[t * y_stride + row - 16 * first]), bits_of(expected)) << "row " << row;
    }
    ASSERT_EQ(y[t * y_stride + rows - 16 * first], kUntouched);
  }
}

class HeadScan : public KernelTest {};
BITNET_TEST_EVERY_TABLE(HeadScan);

TEST_P(HeadScan, OfQ6KFollowsItsDefinition) {
  for (const int64_t cols : {256, 768, 2560}) {
    for (const int64_t tokens : {1, 2, 3, 4, 7, 9}) {
      for (const int64_t groups : {1, 2, 3}) check_q6_k(table(), groups, cols, tokens, Fill::kRandom);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(HeadScan, OfQ6KTakesExtremes) {
  for (const Fill fill : {Fill::kHighest, Fill::kLowest}) {
    check_q6_k(table(), 3, 512, 1, fill);
    check_q6_k(table(), 3, 512, 5, fill);
  }
}

TEST_P(HeadScan, OfInt8FollowsItsDefinition) {
  for (const int64_t cols : {1, 4, 7, 64, 250, 2560}) {
    for (const int64_t tokens : {1, 2, 3, 4, 7, 9}) {
      for (const int64_t groups : {1, 2, 3}) check_i8(table(), groups, cols, tokens, Fill::kRandom);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(HeadScan, OfInt8TakesExtremes) {
  for (const Fill fill : {Fill::kHighest, Fill::kLowest}) {
    check_i8(table(), 1, 65532, 1, fill);
    check_i8(table(), 1, 65532, 6, fill);
  }
}

}  // namespace
}  // namespace bitnet::kernels
