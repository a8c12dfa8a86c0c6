#include "bitnet/quant/block_formats.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr DType kDense[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kF64,
                            DType::kQ8_0, DType::kQ4_0, DType::kQ6_K};

std::vector<std::byte> encode(DType dtype, const std::vector<float>& row) {
  const int64_t count = std::ssize(row);
  std::vector<std::byte> bytes(static_cast<size_t>(storage_bytes(dtype, std::span(&count, 1))));
  quantize_row(dtype, row, bytes);
  return bytes;
}

std::vector<float> decode(DType dtype, const std::vector<std::byte>& bytes, size_t count) {
  std::vector<float> row(count);
  dequantize_row(dtype, bytes, row);
  return row;
}

std::vector<float> round_trip(DType dtype, const std::vector<float>& row) {
  return decode(dtype, encode(dtype, row), row.size());
}

std::vector<float> gaussian(size_t count, float deviation, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> row(count);
  for (float& value : row) value = normal(random);
  return row;
}

ErrorCode code_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

TEST(BlockFormats, PlainTypesDecodeTheirBits) {
  const std::vector<std::byte> f16 = {std::byte{0x00}, std::byte{0x3c}, std::byte{0x01}, std::byte{0x80}};
  EXPECT_EQ(decode(DType::kF16, f16, 2), (std::vector<float>{1.0f, -std::ldexp(1.0f, -24)}));
  const std::vector<std::byte> bf16 = {std::byte{0x80}, std::byte{0x3f}, std::byte{0x00}, std::byte{0xc0}};
  EXPECT_EQ(decode(DType::kBF16, bf16, 2), (std::vector<float>{1.0f, -2.0f}));
}

/// Zeros, subnormals, infinities and NaN included: rows are converted in other ways than single numbers.
TEST(BlockFormats, RowsOfEveryHalfAreTheirValues) {
  std::vector<std::byte> row(2 * 65536);
  for (size_t i = 0; i < 65536; ++i) {
    row[2 * i] = static_cast<std::byte>(i & 255);
    row[2 * i + 1] = static_cast<std::byte>(i >> 8);
  }
  std::vector<float> f16(65536), bf16(65536);
  dequantize_row(DType::kF16, row, f16);
  dequantize_row(DType::kBF16, row, bf16);
  for (size_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    ASSERT_EQ(std::bit_cast<uint32_t>(f16[i]), std::bit_cast<uint32_t>(f16_to_f32(bits))) << i;
    ASSERT_EQ(std::bit_cast<uint32_t>(bf16[i]), std::bit_cast<uint32_t>(bf16_to_f32(bits))) << i;
  }
}

TEST(BlockFormats, F32AndF64KeepEveryValue) {
  const std::vector<float> row = {
      0.0f, -0.0f, 1e-40f, -3.5f, std::numeric_limits<float>::max(), std::numeric_limits<float>::infinity()};
  EXPECT_EQ(round_trip(DType::kF32, row), row);
  EXPECT_EQ(round_trip(DType::kF64, row), row);
}

TEST(BlockFormats, RowsMayLieAtOddAddresses) {
  const std::vector<float> row = gaussian(256, 1.0f);
  for (const DType dtype : kDense) {
    std::vector<std::byte> bytes = encode(dtype, row);
    const std::vector<float> expected = decode(dtype, bytes, row.size());
    bytes.insert(bytes.begin(), std::byte{0});
    std::vector<float> shifted(row.size());
    dequantize_row(dtype, std::span<const std::byte>(bytes).subspan(1), shifted);
    EXPECT_EQ(shifted, expected) << to_string(dtype);
  }
}

// d = 254 / 127 = 2: f16 0x4000. q = round(x / 2), halves away from zero.
TEST(BlockFormats, Q8_0MatchesBytesComputedByHand) {
  std::vector<float> row(32, 0.0f);
  row[0] = 254;
  row[1] = -254;
  row[2] = 3;
  row[3] = -3;
  row[31] = 1.9f;
  const std::vector<std::byte> bytes = encode(DType::kQ8_0, row);
  EXPECT_EQ(bytes[0], std::byte{0x00});
  EXPECT_EQ(bytes[1], std::byte{0x40});
  EXPECT_EQ(bytes[2], std::byte{127});
  EXPECT_EQ(bytes[3], std::byte{0x81});
  EXPECT_EQ(bytes[4], std::byte{2});
  EXPECT_EQ(bytes[5], std::byte{0xfe});
  EXPECT_EQ(bytes[33], std::byte{1});
  EXPECT_EQ(decode(DType::kQ8_0, bytes, 32)[1], -254.0f);
}

// The extreme is -8, so d = 1 (0x3c00); code = trunc(x + 8.5): 0 for -8, 8 for 0, 15 for 7 and beyond.
TEST(BlockFormats, Q4_0MatchesBytesComputedByHand) {
  std::vector<float> row(32, 0.0f);
  row[0] = -8;
  row[16] = 7.9f;
  row[1] = 3;
  row[17] = -0.6f;
  const std::vector<std::byte> bytes = encode(DType::kQ4_0, row);
  EXPECT_EQ(bytes[0], std::byte{0x00});
  EXPECT_EQ(bytes[1], std::byte{0x3c});
  EXPECT_EQ(bytes[2], std::byte{0xf0});
  EXPECT_EQ(bytes[3], std::byte{0x7b});
  EXPECT_EQ(bytes[17], std::byte{0x88});
  EXPECT_EQ(decode(DType::kQ4_0, bytes, 32)[16], 7.0f);
}

// Weight 37 lies in half 0, quarter 1, lane 5: low nibble of byte 32 + 5, high bits 2-3 of byte 128 + 5;
// sub-scale 2. Weight 250: half 1, quarter 3, lane 26: high nibble of byte 64 + 32 + 26, bits 6-7 of 160 +
// 26; sub-scale 15.
TEST(BlockFormats, Q6_KDecodesBytesSetByHand) {
  std::vector<std::byte> bytes(210, std::byte{0});
  bytes[37] = std::byte{0x0d};
  bytes[133] = std::byte{0x0c};  // code 13 + 48 = 61, value 29
  bytes[192 + 2] = std::byte{3};
  bytes[122] = std::byte{0x50};
  bytes[186] = std::byte{0x40};  // code 5 + 16 = 21, value -11
  bytes[192 + 15] = std::byte{0xfe};
  bytes[208] = std::byte{0x00};
  bytes[209] = std::byte{0x38};  // 0.5
  const std::vector<float> row = decode(DType::kQ6_K, bytes, 256);
  EXPECT_EQ(row[37], 0.5f * 3 * 29);
  EXPECT_EQ(row[250], 0.5f * -2 * -11);
  EXPECT_EQ(row[36], 0.5f * 3 * -32);
  EXPECT_EQ(row[0], 0.0f);
}

// A grid with both -32 and 31 in each sub-block, and sub-scales whose greatest is a power of two times -128.
TEST(BlockFormats, Q6_KKeepsWhatItCanHold) {
  std::vector<float> row(256);
  for (int i = 0; i < 256; ++i) {
    const int sub_scale = i / 16 == 0 ? -128 : 8 * (i / 16);
    const int quant = i % 16 == 0 ? -32 : (i * 37 % 64) - 32;
    row[static_cast<size_t>(i)] = 0.25f * static_cast<float>(sub_scale * quant);
  }
  EXPECT_EQ(round_trip(DType::kQ6_K, row), row);
}

TEST(BlockFormats, ErrorsStayWithinHalfAStep) {
  const std::vector<float> row = gaussian(4096, 0.02f);
  const std::vector<float> q8 = round_trip(DType::kQ8_0, row);
  const std::vector<float> q4 = round_trip(DType::kQ4_0, row);
  for (size_t b = 0; b < row.size(); b += 32) {
    float largest = 0;
    for (size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::fabs(row[i]));
    for (size_t i = b; i < b + 32; ++i) {
      // Half a step, and the scale's f16 rounding (2^-11 of a value, or 2^-25 on subnormal scales) times the
      // quant.
      EXPECT_LE(std::fabs(q8[i] - row[i]), largest / 127 * 0.5f + largest * 0x1p-11f + 127 * 0x1p-25f);
      // A positive extreme opposite to the signed one may meet code 15 = 7 steps: a whole step.
      EXPECT_LE(std::fabs(q4[i] - row[i]), largest / 8 + largest * 0x1p-11f);
    }
  }
}

TEST(BlockFormats, Q6_KIsBetweenQ4AndQ8) {
  const std::vector<float> row = gaussian(256 * 64, 0.02f);
  const auto relative_error = [&](DType dtype) {
    const std::vector<float> back = round_trip(dtype, row);
    double error = 0;
    double power = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      error += std::pow(back[i] - row[i], 2);
      power += std::pow(row[i], 2);
    }
    return std::sqrt(error / power);
  };
  EXPECT_LT(relative_error(DType::kQ8_0), relative_error(DType::kQ6_K));
  // A Gaussian block of 16 has its extreme near 1.8 deviations: step 1.8 / 32, error step / sqrt(12) = 0.016.
  EXPECT_LT(relative_error(DType::kQ6_K), 0.02);
  EXPECT_LT(relative_error(DType::kQ6_K), relative_error(DType::kQ4_0));
}

TEST(BlockFormats, BlocksOfZerosDecodeToZeros) {
  const std::vector<float> zeros(256, 0.0f);
  for (const DType dtype : kDense) EXPECT_EQ(round_trip(dtype, zeros), zeros) << to_string(dtype);
}

TEST(BlockFormats, ScalesTooSmallForF16GiveZerosOrSubnormals) {
  for (const float tiny : {1e-30f, 1e-38f, 1e-42f, std::numeric_limits<float>::denorm_min()}) {
    std::vector<float> row(256, tiny);
    row[3] = -tiny;
    for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ6_K}) {
      EXPECT_EQ(round_trip(dtype, row), std::vector<float>(256, 0.0f)) << to_string(dtype) << " " << tiny;
    }
  }
  const std::vector<float> small = round_trip(DType::kQ8_0, std::vector<float>(32, 127 * 0x1p-24f));
  EXPECT_EQ(small[0], 127 * 0x1p-24f);
}

TEST(BlockFormats, ValuesThatDoNotFitAreRefused) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::nanf(""), 3e38f}) {
    std::vector<float> row(256, 1.0f);
    row[200] = bad;
    for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ6_K}) {
      EXPECT_EQ(code_of([&] { encode(dtype, row); }), ErrorCode::kUnsupported)
          << to_string(dtype) << " " << bad;
    }
  }
  EXPECT_EQ(code_of([&] { encode(DType::kF16, {70000.0f}); }), ErrorCode::kUnsupported);
  EXPECT_EQ(round_trip(DType::kF16, {infinity}), std::vector<float>{infinity});
}

TEST(BlockFormats, WrongSizesAreRefused) {
  for (const DType dtype : kDense) {
    std::vector<float> row(256);
    std::vector<std::byte> bytes = encode(dtype, row);
    bytes.pop_back();
    EXPECT_EQ(code_of([&] { dequantize_row(dtype, bytes, row); }), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code_of([&] { quantize_row(dtype, row, bytes); }), ErrorCode::kInvalidArgument);
  }
  std::vector<float> odd(33);
  std::vector<std::byte> bytes(1000);
  EXPECT_EQ(code_of([&] { dequantize_row(DType::kQ8_0, bytes, odd); }), ErrorCode::kInvalidArgument);
}

TEST(BlockFormats, EmptyRowsAreFine) {
  for (const DType dtype : kDense) EXPECT_TRUE(round_trip(dtype, {}).empty());
}

TEST(BlockFormats, TernaryAndIntegerTypesAreRefused) {
  std::vector<float> row(256);
  std::vector<std::byte> bytes(1024);
  for (const DType dtype : {DType::kI8, DType::kU8, DType::kTQ1_0, DType::kI2_S, DType::kBool}) {
    EXPECT_EQ(code_of([&] { dequantize_row(dtype, bytes, row); }), ErrorCode::kDTypeMismatch);
    EXPECT_EQ(code_of([&] { quantize_row(dtype, row, bytes); }), ErrorCode::kDTypeMismatch);
  }
}

}  // namespace
}  // namespace bitnet
