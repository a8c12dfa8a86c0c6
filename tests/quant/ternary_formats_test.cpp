#include "bitnet/quant/ternary_formats.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr DType kWritable[] = {DType::kHfTernary, DType::kI2_S, DType::kTQ1_0, DType::kTQ2_0,
                               DType::kTernary};

std::vector<int8_t> random_trits(int64_t count, uint32_t seed = 3) {
  std::mt19937 random(seed);
  std::vector<int8_t> trits(static_cast<size_t>(count));
  for (int8_t& trit : trits) trit = static_cast<int8_t>(static_cast<int>(random() % 3) - 1);
  return trits;
}

std::vector<std::byte> encode(DType dtype, int64_t rows, int64_t cols, const std::vector<int8_t>& trits,
                              float scale) {
  const int64_t shape[] = {rows, cols};
  std::vector<std::byte> bytes(static_cast<size_t>(storage_bytes(dtype, shape)));
  encode_ternary_rows(dtype, rows, cols, 0, trits, scale, bytes);
  return bytes;
}

std::vector<int8_t> decode(const TernaryBytes& matrix, float expected_scale) {
  std::vector<int8_t> trits(static_cast<size_t>(matrix.rows * matrix.cols));
  for (int64_t r = 0; r < matrix.rows; ++r) {
    const auto row =
        std::span(trits).subspan(static_cast<size_t>(r * matrix.cols), static_cast<size_t>(matrix.cols));
    EXPECT_EQ(decode_ternary_row(matrix, r, row), expected_scale);
  }
  return trits;
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

ErrorCode decode_error(DType dtype, int64_t rows, int64_t cols, const std::vector<std::byte>& bytes,
                       int64_t row = 0) {
  std::vector<int8_t> trits(static_cast<size_t>(cols));
  return code_of([&] { (void)decode_ternary_row({dtype, rows, cols, bytes}, row, trits); });
}

void set_f32(std::vector<std::byte>& bytes, size_t offset, float value) {
  std::memcpy(bytes.data() + offset, &value, 4);
}

/// The scale that comes back: formats without a place for it give 1.
float stored_scale(DType dtype, float scale) {
  return dtype == DType::kHfTernary || dtype == DType::kTernary ? 1.0f : scale;
}

TEST(TernaryFormats, EveryWritableFormatKeepsTheTrits) {
  for (const DType dtype : kWritable) {
    for (const auto& [rows, cols] :
         std::vector<std::pair<int64_t, int64_t>>{{4, 256}, {8, 512}, {128, 2560}, {12, 6912}}) {
      const std::vector<int8_t> trits = random_trits(rows * cols);
      const std::vector<std::byte> bytes = encode(dtype, rows, cols, trits, 0.75f);
      EXPECT_EQ(decode({dtype, rows, cols, bytes}, stored_scale(dtype, 0.75f)), trits) << to_string(dtype);
    }
  }
}

TEST(TernaryFormats, RowsThatEndInsideABlockAreRead) {
  // 8640 = 67.5 * 128 is the K of 1bitLLM's 3B; the others cut blocks at many places.
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{4, 8640}, {32, 100}, {128, 1}, {128, 3}, {64, 130}}) {
    const std::vector<int8_t> trits = random_trits(rows * cols);
    const std::vector<std::byte> bytes = encode(DType::kI2_S, rows, cols, trits, 2.0f);
    EXPECT_EQ(decode({DType::kI2_S, rows, cols, bytes}, 2.0f), trits) << rows << "x" << cols;
  }
  for (const auto& [rows, cols] : std::vector<std::pair<int64_t, int64_t>>{{4, 1}, {12, 7}, {4, 8640}}) {
    const std::vector<int8_t> trits = random_trits(rows * cols);
    const std::vector<std::byte> bytes = encode(DType::kHfTernary, rows, cols, trits, 1.0f);
    EXPECT_EQ(decode({DType::kHfTernary, rows, cols, bytes}, 1.0f), trits) << rows << "x" << cols;
  }
}

TEST(TernaryFormats, RowsMayBeWrittenInAnyOrder) {
  const int64_t rows = 64;
  for (const auto& [dtype, cols] : std::vector<std::pair<DType, int64_t>>{
           {DType::kI2_S, 130}, {DType::kHfTernary, 130}, {DType::kTQ1_0, 256}, {DType::kTernary, 132}}) {
    const std::vector<int8_t> trits = random_trits(rows * cols);
    const std::vector<std::byte> whole = encode(dtype, rows, cols, trits, 0.5f);
    std::vector<std::byte> pieces(whole.size());
    for (int64_t r = rows; r-- > 0;) {
      const auto row = std::span(trits).subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols));
      encode_ternary_rows(dtype, rows, cols, r, row, 0.5f, pieces);
    }
    EXPECT_EQ(pieces, whole) << to_string(dtype);
  }
}

TEST(TernaryFormats, I2_SMatchesBytesSetByHand) {
  std::vector<int8_t> trits(128, -1);
  trits[5] = 1;       // bits 7-6 of byte 5
  trits[32 + 5] = 0;  // bits 5-4
  trits[64 + 5] = 1;  // bits 3-2
  trits[96 + 5] = 0;  // bits 1-0
  const std::vector<std::byte> bytes = encode(DType::kI2_S, 1, 128, trits, 1.5f);
  ASSERT_EQ(bytes.size(), 64u);
  EXPECT_EQ(bytes[5], std::byte{0b10'01'10'01});
  EXPECT_EQ(bytes[4], std::byte{0});
  EXPECT_EQ(bytes[34], std::byte{0xc0});
  EXPECT_EQ(bytes[35], std::byte{0x3f});
}

TEST(TernaryFormats, HfMatchesBytesSetByHand) {
  // Rows 1, 3, 5, 7 of [8, 2] share the second byte row.
  const std::vector<int8_t> trits = {-1, -1, 1, -1, -1, -1, 0, -1, -1, -1, -1, -1, -1, -1, 1, 1};
  const std::vector<std::byte> bytes = encode(DType::kHfTernary, 8, 2, trits, 1.0f);
  ASSERT_EQ(bytes.size(), 4u);
  EXPECT_EQ(bytes[2], std::byte{0b10'00'01'10});
  EXPECT_EQ(bytes[3], std::byte{0b10'00'00'00});
}

TEST(TernaryFormats, TQ2_0MatchesBytesSetByHand) {
  std::vector<int8_t> trits(256, -1);
  trits[128 + 64 + 7] = 1;  // byte 32 + 7, shift 4
  trits[7] = 0;             // byte 7, shift 0
  const std::vector<std::byte> bytes = encode(DType::kTQ2_0, 1, 256, trits, 1.0f);
  ASSERT_EQ(bytes.size(), 66u);
  EXPECT_EQ(bytes[39], std::byte{2 << 4});
  EXPECT_EQ(bytes[7], std::byte{1});
  EXPECT_EQ(bytes[64], std::byte{0x00});
  EXPECT_EQ(bytes[65], std::byte{0x3c});
}

TEST(TernaryFormats, TQ1_0MatchesBytesComputedByHand) {
  std::vector<int8_t> trits(256, -1);
  trits[0] = 1;         // byte 0: number 2 * 81 = 162, ceil(256 * 162 / 243) = 171
  trits[160 + 64] = 1;  // byte 32, digit 4: number 2, ceil(512 / 243) = 3
  trits[240 + 12] = 0;  // byte 48, digit 3 of four, then a zero digit: number 3, ceil(768 / 243) = 4
  const std::vector<std::byte> bytes = encode(DType::kTQ1_0, 1, 256, trits, 0.5f);
  ASSERT_EQ(bytes.size(), 54u);
  EXPECT_EQ(bytes[0], std::byte{171});
  EXPECT_EQ(bytes[1], std::byte{0});
  EXPECT_EQ(bytes[32], std::byte{3});
  EXPECT_EQ(bytes[48], std::byte{4});
  EXPECT_EQ(bytes[53], std::byte{0x38});
}

TEST(TernaryFormats, TQ1_0HoldsEveryGroupOfFive) {
  for (int number = 0; number < 243; ++number) {
    std::vector<int8_t> trits(256, 0);
    trits[255] = 1;  // a block of zeros only would have no scale
    for (int n = 0, rest = number; n < 5; ++n, rest /= 3)
      trits[static_cast<size_t>(32 * n)] = static_cast<int8_t>(rest % 3 - 1);
    const std::vector<std::byte> bytes = encode(DType::kTQ1_0, 1, 256, trits, 1.0f);
    ASSERT_EQ(decode({DType::kTQ1_0, 1, 256, bytes}, 1.0f), trits) << number;
  }
}

TEST(TernaryFormats, IQ2_BNDecodesBytesSetByHand) {
  std::vector<std::byte> bytes(2 * (4 + 32), std::byte{0x55});
  set_f32(bytes, 0, 0.25f);
  set_f32(bytes, 36, 0.5f);
  bytes[36 + 4 + 16 + 3] = std::byte{0b00'10'01'10};  // second row and block: weights 3, 19, 35, 51
  std::vector<int8_t> row(128);
  EXPECT_EQ(decode_ternary_row({DType::kIQ2_BN, 2, 128, bytes}, 0, row), 0.25f);
  EXPECT_EQ(row, std::vector<int8_t>(128, 0));
  EXPECT_EQ(decode_ternary_row({DType::kIQ2_BN, 2, 128, bytes}, 1, row), 0.5f);
  EXPECT_EQ(row[64 + 3], 1);
  EXPECT_EQ(row[64 + 19], 0);
  EXPECT_EQ(row[64 + 35], 1);
  EXPECT_EQ(row[64 + 51], -1);
}

TEST(TernaryFormats, IQ2_BNIsNotWritten) {
  std::vector<std::byte> bytes(1000);
  EXPECT_EQ(code_of([&] { encode_ternary_rows(DType::kIQ2_BN, 1, 64, 0, random_trits(64), 1.0f, bytes); }),
            ErrorCode::kUnsupported);
}

TEST(TernaryFormats, CodeThreeIsCorruptWhereverItLies) {
  const int64_t rows = 4;
  const int64_t cols = 256;
  for (const DType dtype : {DType::kHfTernary, DType::kI2_S, DType::kTQ2_0, DType::kTernary}) {
    const std::vector<std::byte> good = encode(dtype, rows, cols, random_trits(rows * cols), 1.0f);
    for (int shift = 0; shift < 8; shift += 2) {
      for (const size_t at : {size_t{0}, size_t{31}, size_t{63}}) {
        std::vector<std::byte> bytes = good;
        bytes[at] |= static_cast<std::byte>(3 << shift);
        // The bytes of an HF tensor hold four rows: the one of this shift is bad.
        const int64_t row = dtype == DType::kHfTernary ? shift / 2 : 0;
        EXPECT_EQ(decode_error(dtype, rows, cols, bytes, row), ErrorCode::kCorruptData) << to_string(dtype);
      }
    }
  }
}

// What microsoft/BitNet's quantizer leaves when it runs with several threads: see docs/FORMATS.md.
TEST(TernaryFormats, I2_SOfSeveralThreadsIsRefusedWithAWayOut) {
  const int64_t rows = 128;
  const int64_t cols = 512;
  const int64_t piece_rows = 32;
  const std::vector<int8_t> trits = random_trits(rows * cols);
  std::vector<std::byte> bytes(static_cast<size_t>(rows * cols / 4 + 4 * 32),
                               std::byte{0xb7});  // stale memory
  const std::vector<std::byte> piece =
      encode(DType::kI2_S, piece_rows, cols, {trits.begin(), trits.begin() + piece_rows * cols}, 0.5f);
  std::copy(piece.begin(), piece.end(), bytes.begin());
  set_f32(bytes, static_cast<size_t>(rows * cols / 4), 0.5f);
  std::vector<int8_t> row(static_cast<size_t>(cols));
  EXPECT_EQ(decode_ternary_row({DType::kI2_S, rows, cols, bytes}, 0, row), 0.5f);
  try {
    (void)decode_ternary_row({DType::kI2_S, rows, cols, bytes}, piece_rows, row);
    ADD_FAILURE() << "stale memory was taken for weights";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruptData);
    EXPECT_NE(error.hint().find("1 thread"), std::string::npos) << error.hint();
  }
}

TEST(TernaryFormats, ScalesThatAreNoScalesAreCorrupt) {
  const std::vector<int8_t> trits = random_trits(256);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), -1.0f}) {
    std::vector<std::byte> i2s = encode(DType::kI2_S, 1, 256, trits, 1.0f);
    set_f32(i2s, 64, bad);
    EXPECT_EQ(decode_error(DType::kI2_S, 1, 256, i2s), ErrorCode::kCorruptData);
    std::vector<std::byte> iq2(4 + 64, std::byte{0x55});
    set_f32(iq2, 0, bad);
    EXPECT_EQ(decode_error(DType::kIQ2_BN, 1, 256, iq2), ErrorCode::kCorruptData);
    for (const DType dtype : {DType::kTQ1_0, DType::kTQ2_0}) {
      std::vector<std::byte> tq = encode(dtype, 1, 256, trits, 1.0f);
      const uint16_t bits = f32_to_f16(bad);
      std::memcpy(tq.data() + tq.size() - 2, &bits, 2);
      EXPECT_EQ(decode_error(dtype, 1, 256, tq), ErrorCode::kCorruptData);
    }
    EXPECT_EQ(code_of([&] { encode(DType::kI2_S, 1, 256, trits, bad); }), ErrorCode::kInvalidArgument);
  }
}

TEST(TernaryFormats, ZeroBlocksOfTQMayHaveAnyScale) {
  for (const DType dtype : {DType::kTQ1_0, DType::kTQ2_0}) {
    std::vector<int8_t> trits = random_trits(768);
    std::fill_n(trits.begin(), 256, int8_t{0});
    std::vector<std::byte> bytes = encode(dtype, 1, 768, trits, 0.5f);
    const auto block = static_cast<size_t>(dtype_info(dtype).block_bytes);
    for (const float scale : {0.0f, 3.0f}) {
      const uint16_t bits = f32_to_f16(scale);
      std::memcpy(bytes.data() + block - 2, &bits, 2);
      EXPECT_EQ(decode({dtype, 1, 768, bytes}, 0.5f), trits);
    }
  }
}

TEST(TernaryFormats, AScaleOfZeroMakesABlockOfTQZero) {
  std::vector<int8_t> trits = random_trits(512);
  std::vector<std::byte> bytes = encode(DType::kTQ2_0, 1, 512, trits, 0.5f);
  std::memset(bytes.data() + 64, 0, 2);
  std::fill_n(trits.begin(), 256, int8_t{0});
  EXPECT_EQ(decode({DType::kTQ2_0, 1, 512, bytes}, 0.5f), trits);
  EXPECT_EQ(
      decode({DType::kTQ2_0, 1, 256, encode(DType::kTQ2_0, 1, 256, std::vector<int8_t>(256, 0), 0.0f)}, 0.0f),
      std::vector<int8_t>(256, 0));
}

TEST(TernaryFormats, TQRowsOfSeveralScalesAreNoBitNetMatrix) {
  for (const DType dtype : {DType::kTQ1_0, DType::kTQ2_0}) {
    std::vector<std::byte> bytes = encode(dtype, 1, 512, random_trits(512), 0.5f);
    const uint16_t bits = f32_to_f16(0.75f);
    std::memcpy(bytes.data() + bytes.size() - 2, &bits, 2);
    EXPECT_EQ(decode_error(dtype, 1, 512, bytes), ErrorCode::kUnsupported);
  }
}

TEST(TernaryFormats, TQScalesRoundToF16WithinItsBound) {
  for (const float scale : {0.0123f, 1.001f, 3.14159f}) {
    const std::vector<std::byte> bytes = encode(DType::kTQ2_0, 1, 256, std::vector<int8_t>(256, 1), scale);
    std::vector<int8_t> row(256);
    const float back = decode_ternary_row({DType::kTQ2_0, 1, 256, bytes}, 0, row);
    EXPECT_LE(std::fabs(back - scale), scale * 0x1p-11f);
  }
  for (const float bad : {1e6f, 1e-9f}) {
    EXPECT_EQ(code_of([&] { encode(DType::kTQ1_0, 1, 256, random_trits(256), bad); }),
              ErrorCode::kUnsupported);
  }
}

TEST(TernaryFormats, ShapesThatDoNotFitAreRefused) {
  std::vector<std::byte> bytes(100000);
  std::vector<int8_t> row(8640);
  for (const DType dtype : {DType::kTQ1_0, DType::kTQ2_0}) {
    EXPECT_EQ(code_of([&] {
                (void)decode_ternary_row({dtype, 4, 8640, bytes}, 0, row);
              }),
              ErrorCode::kUnsupported);
  }
  EXPECT_EQ(code_of([&] {
              (void)decode_ternary_row({DType::kHfTernary, 3, 8640, bytes}, 0, row);
            }),
            ErrorCode::kUnsupported);
}

TEST(TernaryFormats, WrongArgumentsAreRefused) {
  for (const DType dtype : kWritable) {
    std::vector<std::byte> bytes = encode(dtype, 4, 256, random_trits(1024), 1.0f);
    std::vector<int8_t> row(256);
    const auto decode_at = [&](int64_t index, size_t room) {
      return code_of([&] {
        (void)decode_ternary_row({dtype, 4, 256, bytes}, index, std::span(row).first(room));
      });
    };
    EXPECT_EQ(decode_at(4, 256), ErrorCode::kInvalidArgument);
    EXPECT_EQ(decode_at(-1, 256), ErrorCode::kInvalidArgument);
    EXPECT_EQ(decode_at(0, 255), ErrorCode::kInvalidArgument);
    bytes.pop_back();
    EXPECT_EQ(decode_error(dtype, 4, 256, bytes), ErrorCode::kCorruptData);
    EXPECT_EQ(code_of([&] { encode_ternary_rows(dtype, 4, 256, 0, random_trits(1024), 1.0f, bytes); }),
              ErrorCode::kInvalidArgument);
    bytes.resize(bytes.size() + 1);
    EXPECT_EQ(code_of([&] { encode_ternary_rows(dtype, 4, 256, 1, random_trits(1024), 1.0f, bytes); }),
              ErrorCode::kInvalidArgument);
    EXPECT_EQ(code_of([&] { encode_ternary_rows(dtype, 4, 256, 0, random_trits(255), 1.0f, bytes); }),
              ErrorCode::kInvalidArgument);
    std::vector<int8_t> bad = random_trits(1024);
    bad[77] = 2;
    EXPECT_EQ(code_of([&] { encode_ternary_rows(dtype, 4, 256, 0, bad, 1.0f, bytes); }),
              ErrorCode::kInvalidArgument);
  }
  std::vector<std::byte> bytes(4096);
  EXPECT_EQ(decode_error(DType::kF32, 4, 256, bytes), ErrorCode::kDTypeMismatch);
}

TEST(Absmean, IsTheMeanMagnitude) {
  EXPECT_EQ(absmean(std::vector<float>{1.0f, -3.0f}), 2.0f);
  std::vector<float> weights(1001, -0.25f);
  EXPECT_EQ(absmean(weights), 0.25f);
  EXPECT_EQ(absmean(std::vector<float>(9, 0.0f)), 1e-5f);
}

TEST(Absmean, RefusesNothingNanAndInfinity) {
  EXPECT_EQ(code_of([] { (void)absmean({}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] {
              (void)absmean(std::vector<float>{1.0f, std::nanf("")});
            }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { (void)absmean(std::vector<float>{std::numeric_limits<float>::infinity()}); }),
            ErrorCode::kInvalidArgument);
}

TEST(Ternarize, RoundsHalfToEvenAndClamps) {
  const std::vector<float> weights = {0.0f,
                                      0.5f,
                                      -0.5f,
                                      std::nextafter(0.5f, 1.0f),
                                      -std::nextafter(0.5f, 1.0f),
                                      1.49f,
                                      1.5f,
                                      -1.5f,
                                      100.0f,
                                      -1e30f,
                                      -0.0f,
                                      0.49f,
                                      1.0f,
                                      -1.0f};
  std::vector<int8_t> trits(weights.size());
  ternarize(weights, 1.0f, trits);
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_EQ(trits[i], static_cast<int8_t>(std::clamp(std::nearbyint(weights[i]), -1.0f, 1.0f)))
        << weights[i];
  }
}

TEST(Ternarize, MultipliesByTheRoundedInverse) {
  std::mt19937 random(5);
  std::vector<float> weights(10000);
  for (float& weight : weights) weight = static_cast<float>(random() % 2000) * 1e-5f - 0.01f;
  const float s = absmean(weights);
  std::vector<int8_t> trits(weights.size());
  ternarize(weights, s, trits);
  const float inverse = 1.0f / s;
  for (size_t i = 0; i < weights.size(); ++i) {
    ASSERT_EQ(trits[i], static_cast<int8_t>(std::clamp(std::nearbyint(weights[i] * inverse), -1.0f, 1.0f)));
  }
}

TEST(Ternarize, RefusesScalesAndSizesThatMakeNoSense) {
  std::vector<int8_t> trits(1);
  for (const float bad : {0.0f, -1.0f, std::nanf("")}) {
    EXPECT_EQ(code_of([&] { ternarize(std::vector<float>{1.0f}, bad, trits); }), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(code_of([&] {
              ternarize(std::vector<float>{1.0f, 2.0f}, 1.0f, trits);
            }),
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace bitnet
