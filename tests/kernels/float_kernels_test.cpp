#include "kernels/cpu/float_kernels.h"

#include "bitnet/core/half.h"
#include "kernel_test.h"
#include "kernels/cpu/scalar/f32x16.h"

#include <cmath>
#include <limits>

namespace bitnet::kernels {
namespace {

constexpr double kEpsilon = 0x1p-24;  // the relative error of one rounding to binary32
constexpr float kInfinity = std::numeric_limits<float>::infinity();

float exp_of(float x) {
  return exp(scalar::F32x16::broadcast(x)).lane[0];
}

/// |actual - expected| in units of the last place of `expected` (a normal number).
double ulps(float actual, double expected) {
  return std::fabs(actual - expected) / std::ldexp(1.0, std::ilogb(expected) - 23);
}

TEST(Exp, IsWithinItsBoundOnASampleOfAllFloats) {
  double worst = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4099) {
    const float x = __builtin_bit_cast(float, static_cast<uint32_t>(bits));
    const double expected = std::exp(static_cast<double>(x));
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(exp_of(x)));
    } else if (expected < 0x1p-126) {
      ASSERT_EQ(bits_of(exp_of(x)), 0u) << x;
    } else if (expected >= 0x1.ffffffp+127) {
      ASSERT_EQ(exp_of(x), kInfinity) << x;
    } else {
      worst = std::max(worst, ulps(exp_of(x), expected));
    }
  }
  EXPECT_LE(worst, 1.01);
}

TEST(Exp, EdgesAreExact) {
  EXPECT_EQ(exp_of(0.0f), 1.0f);
  EXPECT_EQ(exp_of(-0.0f), 1.0f);
  EXPECT_EQ(exp_of(-kInfinity), 0.0f);
  EXPECT_EQ(exp_of(kInfinity), kInfinity);
  EXPECT_EQ(exp_of(-87.34f), 0.0f);
  EXPECT_GT(exp_of(-87.33f), 0x1p-126f);
  EXPECT_TRUE(std::isfinite(exp_of(88.72f)));
  EXPECT_EQ(exp_of(88.73f), kInfinity);
  EXPECT_TRUE(std::isnan(exp_of(__builtin_bit_cast(float, 0x7f8001ffu)))) << "a NaN with low bits set";
}

class FloatKernels : public KernelTest {};
BITNET_TEST_EVERY_TABLE(FloatKernels);

/// Runs `run(table, x)` on this table and the oracle, on guarded copies of x, and compares bit for bit.
template <class Run>
std::vector<float> run_on(const KernelTable& table, const std::vector<float>& x, Run run) {
  GuardedArray<float> copy(static_cast<int64_t>(x.size()));
  std::copy(x.begin(), x.end(), copy.data());
  run(table, copy.data());
  return {copy.span().begin(), copy.span().end()};
}
template <class Run>
std::vector<float> run_both(const KernelTable& table, const std::vector<float>& x, Run run) {
  const std::vector<float> actual = run_on(table, x, run), expected = run_on(scalar_table(), x, run);
  EXPECT_TRUE(same_bits<float>(actual, expected));
  return actual;
}

TEST_P(FloatKernels, RmsNormEqualsTheOracleAndTheFormula) {
  Random random(6);
  for (int64_t cols = 1; cols <= 100; ++cols) {
    const int64_t tokens = 1 + cols % 3, stride = cols + cols % 2;
    std::vector<float> x(static_cast<size_t>((tokens - 1) * stride + cols));
    fill_uniform(random, x, -3, 3);
    GuardedArray<float> weight(cols);
    fill_uniform(random, weight.span(), 0.5f, 2);
    const std::vector<float> y = run_both(table(), x, [&](const KernelTable& t, float* p) {
      t.rms_norm({.x = p,
                  .x_stride = stride,
                  .tokens = tokens,
                  .cols = cols,
                  .weight = weight.data(),
                  .eps = 1e-5f,
                  .y = p,
                  .y_stride = stride});
    });
    // The sum has cols / 16 + 4 roundings, its root halves the error; division, eps, root, inverse and two
    // products add one each.
    const double tolerance = kEpsilon * (static_cast<double>(cols) / 32 + 2 + 6);
    for (int64_t t = 0; t < tokens; ++t) {
      double squares = 0;
      for (int64_t i = 0; i < cols; ++i) squares += std::pow(x[static_cast<size_t>(t * stride + i)], 2.0);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5f);
      for (int64_t i = 0; i < cols; ++i) {
        const double expected = x[static_cast<size_t>(t * stride + i)] * scale * weight[i];
        EXPECT_NEAR(y[static_cast<size_t>(t * stride + i)], expected, std::fabs(expected) * tolerance);
      }
    }
  }
}

TEST_P(FloatKernels, RmsNormLeavesTheSpaceBetweenRowsAlone) {
  std::vector<float> x(40, 1.0f), weight(17, 2.0f), y(40, -1.0f);
  table().rms_norm({.x = x.data(),
                    .x_stride = 20,
                    .tokens = 2,
                    .cols = 17,
                    .weight = weight.data(),
                    .eps = 0,
                    .y = y.data(),
                    .y_stride = 20});
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(y[i], i % 20 < 17 ? 2.0f : -1.0f) << i;
}

TEST_P(FloatKernels, RopeEqualsTheOracleAndRotates) {
  Random random(7);
  for (const int64_t head_dim : {2, 32, 64, 96, 100, 128, 256}) {
    const int64_t tokens = 3, heads = 2, half = head_dim / 2;
    GuardedArray<float> cos(tokens * half), sin(tokens * half);
    for (int64_t i = 0; i < tokens * half; ++i) {
      const float angle = uniform(random, -3, 3);
      cos[i] = std::cos(angle);
      sin[i] = std::sin(angle);
    }
    std::vector<float> x(static_cast<size_t>(tokens * heads * head_dim));
    fill_uniform(random, x, -1, 1);
    const std::vector<float> y = run_both(table(), x, [&](const KernelTable& t, float* p) {
      t.rope({.x = p,
              .x_stride = heads * head_dim,
              .tokens = tokens,
              .heads = heads,
              .head_dim = head_dim,
              .cos = cos.data(),
              .sin = sin.data()});
    });
    for (int64_t row = 0; row < tokens * heads; ++row) {
      for (int64_t i = 0; i < half; ++i) {
        const double c = cos[row / heads * half + i], s = sin[row / heads * half + i];
        const auto at = static_cast<size_t>(row * head_dim + i), other = at + static_cast<size_t>(half);
        // Two roundings of values below 2.
        EXPECT_NEAR(y[at], x[at] * c - x[other] * s, 4 * kEpsilon);
        EXPECT_NEAR(y[other], x[other] * c + x[at] * s, 4 * kEpsilon);
      }
    }
  }
}

TEST_P(FloatKernels, Relu2EqualsTheOracleAndTheFormula) {
  Random random(8);
  for (int64_t count = 0; count <= 70; ++count) {
    GuardedArray<float> gate(count), up(count);
    fill_uniform(random, gate.span(), -2, 2);
    fill_uniform(random, up.span(), -2, 2);
    const std::vector<float> h = run_both(
        table(), std::vector<float>(static_cast<size_t>(count)), [&](const KernelTable& t, float* p) {
          t.glu_relu2({.gate = gate.data(), .up = up.data(), .h = p, .count = count});
        });
    for (int64_t i = 0; i < count; ++i) {
      const float g = std::max(gate[i], 0.0f);
      EXPECT_EQ(h[static_cast<size_t>(i)], g * g * up[i]);
    }
  }
}

TEST_P(FloatKernels, SiluEqualsTheOracleAndTheFormula) {
  Random random(9);
  for (int64_t count = 0; count <= 70; ++count) {
    GuardedArray<float> gate(count), up(count);
    fill_uniform(random, gate.span(), -30, 30);
    fill_uniform(random, up.span(), -2, 2);
    const std::vector<float> h = run_both(
        table(), std::vector<float>(static_cast<size_t>(count)), [&](const KernelTable& t, float* p) {
          t.glu_silu({.gate = gate.data(), .up = up.data(), .h = p, .count = count});
        });
    for (int64_t i = 0; i < count; ++i) {
      const double g = gate[i], expected = g / (1 + std::exp(-g)) * up[i];
      // exp to 1.01 ulp (2.02 epsilon), then an addition, a division and a product.
      EXPECT_NEAR(h[static_cast<size_t>(i)], expected, std::fabs(expected) * 5.1 * kEpsilon);
    }
  }
}

TEST_P(FloatKernels, GatesKeepNaNAndInfinity) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> gate = {nan, kInfinity, -kInfinity, -1000.0f, 1000.0f, -0.0f}, up(6, 1.0f);
  std::vector<float> h(6);
  table().glu_relu2({.gate = gate.data(), .up = up.data(), .h = h.data(), .count = 6});
  EXPECT_TRUE(std::isnan(h[0]));
  EXPECT_EQ(h[1], kInfinity);
  EXPECT_EQ(h[2], 0.0f);
  EXPECT_EQ(bits_of(h[5]), 0u);
  table().glu_silu({.gate = gate.data(), .up = up.data(), .h = h.data(), .count = 6});
  EXPECT_TRUE(std::isnan(h[0]));
  EXPECT_EQ(h[1], kInfinity);
  EXPECT_EQ(h[3], 0.0f) << "e^1000 is infinite";
  EXPECT_EQ(h[4], 1000.0f);
}

TEST_P(FloatKernels, AddIsExactlyOneRounding) {
  Random random(10);
  for (int64_t count = 0; count <= 70; ++count) {
    std::vector<float> x(static_cast<size_t>(count));
    GuardedArray<float> y(count);
    fill_uniform(random, x, -1, 1);
    fill_uniform(random, y.span(), -1000, 1000);
    const std::vector<float> sum =
        run_on(table(), x, [&](const KernelTable& t, float* p) { t.add(p, y.data(), count); });
    for (int64_t i = 0; i < count; ++i)
      EXPECT_EQ(sum[static_cast<size_t>(i)], x[static_cast<size_t>(i)] + y[i]);
  }
}

TEST_P(FloatKernels, StoreF16RoundsAsTheCoreLibraryDoes) {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4057)  // NaN and infinities included
    x.push_back(__builtin_bit_cast(float, static_cast<uint32_t>(bits)));
  for (uint32_t half = 0; half < 0x7c00; ++half) {  // each half, and the ties and neighbours above it
    const uint32_t bits = bits_of(f16_to_f32(static_cast<uint16_t>(half)));
    for (const uint32_t offset : {0u, 0xfffu, 0x1000u, 0x1001u})
      x.push_back(__builtin_bit_cast(float, bits + offset));
  }
  std::vector<uint16_t> out(x.size());
  table().store_f16(x.data(), out.data(), std::ssize(x));
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(out[i], f32_to_f16(x[i])) << x[i];
}

TEST_P(FloatKernels, StoreF16TakesEveryLength) {
  for (int64_t count = 0; count <= 40; ++count) {
    GuardedArray<float> x(count);
    GuardedArray<uint16_t> out(count);
    for (int64_t i = 0; i < count; ++i) x[i] = static_cast<float>(i) * 0.3f;
    table().store_f16(x.data(), out.data(), count);
    for (int64_t i = 0; i < count; ++i) EXPECT_EQ(out[i], f32_to_f16(x[i]));
  }
}

}  // namespace
}  // namespace bitnet::kernels
