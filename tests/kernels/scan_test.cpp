#include "bitnet/core/half.h"
#include "kernel_test.h"

#include <array>
#include <cmath>

namespace bitnet::kernels {
namespace {

constexpr float kUntouched = -12345.5f;
constexpr int64_t kBlockCols = 256, kBlockBytes = 210;

float tree(std::array<float, 16> lane) {
  for (size_t width = 8; width >= 1; width /= 2) {
    for (size_t j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

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

/// y and bound of one row as kernel_table.h defines them.
struct Lanes {
  std::array<float, 16> y{}, bound{};
};

void add_block(Lanes& lanes, const uint8_t* unit, const int16_t* x, const float* offset,
               const float* weight) {
  std::array<int64_t, 16> h{};
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i / 32 % 4, place = i % 32;
    const int low = unit[64 * half + 32 * (quarter % 2) + place] >> (4 * (quarter / 2)) & 15;
    const int high = unit[128 + 32 * half + place] >> (2 * quarter) & 3;
    const int weight_i = static_cast<int8_t>(unit[192 + i / 16]) * (low + 16 * high);
    h[static_cast<size_t>(4 * (i / 16 % 4) + i % 8 / 2)] +=
        int64_t{weight_i} * x[64 * (i / 64) + 32 * (i % 16 / 8) + 8 * (i % 64 / 16) + i % 8];
  }
  const float d = f16_to_f32(static_cast<uint16_t>(unit[208] | unit[209] << 8));
  for (size_t i = 0; i < 16; ++i) {
    const auto scale = static_cast<float>(static_cast<int8_t>(unit[192 + i]));
    ASSERT_EQ(h[i], static_cast<int32_t>(h[i]));
    const float codes = static_cast<float>(h[i]);
    lanes.y[i] = std::fma(d, std::fma(scale, offset[i], codes), lanes.y[i]);
    lanes.bound[i] = std::fma(std::fabs(d * scale), weight[i], lanes.bound[i]);
  }
}

void check_q6_k(const KernelTable& table, int64_t rows, int64_t cols, int64_t tokens, Fill fill) {
  Random random(static_cast<uint32_t>(rows + 7 * cols + 31 * tokens));
  const int64_t row_bytes = cols / kBlockCols * kBlockBytes;
  GuardedArray<uint8_t> weights(rows * row_bytes);
  for (int64_t i = 0; i < rows * row_bytes; ++i) {
    weights[i] = static_cast<uint8_t>(random());
    if (fill != Fill::kRandom) weights[i] = i % kBlockBytes < 192 ? 0xff : 0x80;
    if (i % kBlockBytes == 209) weights[i] &= 0xbf;  // a finite scale
  }
  GuardedArray<int16_t> x(tokens * cols, true);
  for (int64_t i = 0; i < tokens * cols; ++i) {
    x[i] = static_cast<int16_t>(static_cast<int>(random() % 32767) - 16383);
    if (fill != Fill::kRandom) x[i] = fill == Fill::kHighest ? 16383 : -16383;
  }
  const int64_t sub_blocks = cols / 16 + 3, y_stride = rows + 5;
  std::vector<float> offset(static_cast<size_t>(tokens * sub_blocks)), weight(offset.size());
  fill_uniform(random, offset, -1e6f, 1e6f);
  fill_uniform(random, weight, 0, 10);
  GuardedArray<float> y(tokens * y_stride), bound(tokens * y_stride);
  y.fill(kUntouched);
  bound.fill(kUntouched);
  const int64_t first = rows > 3 ? 1 : 0;
  table.scan_q6_k({weights.data(), row_bytes, cols, first, rows, tokens, x.data(), cols, offset.data(),
                   weight.data(), sub_blocks, y.data(), bound.data(), y_stride});
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t row = first; row < rows; ++row) {
      Lanes lanes;
      for (int64_t b = 0; b < cols / kBlockCols; ++b) {
        const int64_t s = t * sub_blocks + 16 * b;
        add_block(lanes, weights.data() + row * row_bytes + b * kBlockBytes,
                  x.data() + t * cols + b * kBlockCols, offset.data() + s, weight.data() + s);
      }
      ASSERT_EQ(bits_of(y[t * y_stride + row - first]), bits_of(tree(lanes.y))) << "row " << row;
      ASSERT_EQ(bits_of(bound[t * y_stride + row - first]), bits_of(tree(lanes.bound))) << "row " << row;
    }
    ASSERT_EQ(y[t * y_stride + rows - first], kUntouched);
    ASSERT_EQ(bound[t * y_stride + rows - first], kUntouched);
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
      for (const int64_t rows : {1, 2, 5}) check_q6_k(table(), rows, cols, tokens, Fill::kRandom);
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
