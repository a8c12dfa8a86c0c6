#include "quant/ternary_blocks.h"

#include <algorithm>
#include <array>

namespace bitnet {
namespace {

/// Non-zero where a byte has a pair of bits that are both set.
constexpr uint8_t threes(uint8_t byte) {
  return static_cast<uint8_t>(byte & (byte >> 1) & 0x55);
}

constexpr int8_t trit_at(uint8_t byte, int shift) {
  return static_cast<int8_t>(((byte >> shift) & 3) - 1);
}

/// kBytes bytes, byte j holding weights j, kBytes + j, 2 kBytes + j, 3 kBytes + j from the lowest bits up.
template <int kBytes>
uint8_t decode_planes(const uint8_t* bytes, int8_t* trits) {
  uint8_t bad = 0;
  for (int j = 0; j < kBytes; ++j) {
    bad |= threes(bytes[j]);
    trits[j] = trit_at(bytes[j], 0);
    trits[kBytes + j] = trit_at(bytes[j], 2);
    trits[2 * kBytes + j] = trit_at(bytes[j], 4);
    trits[3 * kBytes + j] = trit_at(bytes[j], 6);
  }
  return bad;
}

/// A run of TQ1_0 bytes: `count` bytes of `digits` digits, for weights first, first + 1, ...
struct TQ1Run {
  int first_byte, count, digits, first_weight;
};
constexpr std::array<TQ1Run, 3> kTQ1Runs = {{{0, 32, 5, 0}, {32, 16, 5, 160}, {48, 4, 4, 240}}};

}  // namespace

uint8_t decode_i2_s_block(const uint8_t* block, int8_t* trits) {
  uint8_t bad = 0;
  for (int j = 0; j < 32; ++j) {
    bad |= threes(block[j]);
    trits[j] = trit_at(block[j], 6);
    trits[32 + j] = trit_at(block[j], 4);
    trits[64 + j] = trit_at(block[j], 2);
    trits[96 + j] = trit_at(block[j], 0);
  }
  return bad;
}

uint8_t decode_codes_at(const uint8_t* bytes, int shift, std::span<int8_t> trits) {
  uint8_t bad = 0;
  int8_t* const out = trits.data();
  for (size_t i = 0; i < trits.size(); ++i) {
    const auto code = static_cast<uint8_t>(bytes[i] >> shift & 3);
    bad |= static_cast<uint8_t>(code & code >> 1);
    out[i] = static_cast<int8_t>(code - 1);
  }
  return bad;
}

uint8_t decode_consecutive(const uint8_t* bytes, std::span<int8_t> trits) {
  uint8_t bad = 0;
  for (size_t i = 0; i < trits.size() / 4; ++i) {
    bad |= threes(bytes[i]);
    for (size_t s = 0; s < 4; ++s) trits[4 * i + s] = trit_at(bytes[i], static_cast<int>(2 * s));
  }
  return bad;
}

uint8_t decode_iq2_bn_block(const uint8_t* block, int8_t* trits) {
  return decode_planes<16>(block, trits);
}

uint8_t decode_tq2_0_block(const uint8_t* block, int8_t* trits) {
  return decode_planes<32>(block, trits) | decode_planes<32>(block + 32, trits + 128);
}

void encode_tq2_0_block(const int8_t* trits, uint8_t* block) {
  std::fill_n(block, 64, uint8_t{0});
  for (int n = 0; n < kTQBlock; ++n) {
    const int shift = 2 * (n % 128 / 32);
    block[32 * (n / 128) + n % 32] |= static_cast<uint8_t>((trits[n] + 1) << shift);
  }
}

void decode_tq1_0_block(const uint8_t* block, int8_t* trits) {
  for (const TQ1Run& run : kTQ1Runs) {
    uint8_t power = 1;
    for (int n = 0; n < run.digits; ++n, power = static_cast<uint8_t>(power * 3)) {
      int8_t* const out = trits + run.first_weight + n * run.count;
      for (int m = 0; m < run.count; ++m) {
        // The byte is a fraction of 256; what lies above the wanted digit wraps away.
        const auto fraction = static_cast<uint8_t>(block[run.first_byte + m] * power);
        out[m] = static_cast<int8_t>((fraction * 3 >> 8) - 1);
      }
    }
  }
}

void encode_tq1_0_block(const int8_t* trits, uint8_t* block) {
  for (const TQ1Run& run : kTQ1Runs) {
    for (int m = 0; m < run.count; ++m) {
      int number = 0;
      for (int n = 0; n < run.digits; ++n)
        number = 3 * number + trits[run.first_weight + n * run.count + m] + 1;
      if (run.digits == 4) number *= 3;  // the fifth digit is 0
      block[run.first_byte + m] = static_cast<uint8_t>((256 * number + 242) / 243);
    }
  }
}

}  // namespace bitnet
