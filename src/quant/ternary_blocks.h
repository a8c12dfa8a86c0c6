#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace bitnet {

// One block of each ternary format, in bytes and trits (docs/FORMATS.md has the layouts). Decoders return
// non-zero if a 2-bit code was 3; that is found by OR-ing over the block, because a branch per weight would
// forbid vector code, and these loops run over every weight of a model at load.

inline constexpr size_t kI2SBlock = 128;
inline constexpr int64_t kI2SBlockBytes = 32;
inline constexpr int64_t kTQBlock = 256;
inline constexpr int64_t kIQ2Block = 64;

/// 32 bytes; byte j holds weights j, 32+j, 64+j, 96+j from the highest bits down.
uint8_t decode_i2_s_block(const uint8_t* block, int8_t* trits);

/// Where weight `index` of a flat I2_S tensor lies.
struct I2SPosition {
  int64_t byte;
  int shift;
};
[[nodiscard]] constexpr I2SPosition i2_s_position(int64_t index) {
  return {index / 128 * kI2SBlockBytes + index % 32, static_cast<int>(6 - 2 * (index % 128 / 32))};
}

/// One code of every byte: trits[i] = (bytes[i] >> shift & 3) - 1.
uint8_t decode_codes_at(const uint8_t* bytes, int shift, std::span<int8_t> trits);

/// Four consecutive weights a byte, lowest bits first. trits.size() is a multiple of 4.
uint8_t decode_consecutive(const uint8_t* bytes, std::span<int8_t> trits);

/// 16 bytes; byte j holds weights j, 16+j, 32+j, 48+j from the lowest bits up.
uint8_t decode_iq2_bn_block(const uint8_t* block, int8_t* trits);

/// 64 bytes of codes: weight n of the block in byte 32 (n / 128) + n % 32, from the lowest bits up.
uint8_t decode_tq2_0_block(const uint8_t* block, int8_t* trits);
void encode_tq2_0_block(const int8_t* trits, uint8_t* block);

/// 52 bytes, each a number of five (the last four bytes: four) base-3 digits code = trit + 1, stored as
/// ceil(256 * number / 243), so that digit after digit comes out of the top by multiplying by 3. Bytes 0..31
/// hold weights 0..159 (digit n of byte m: weight 32n + m), bytes 32..47 weights 160..239 (160 + 16n + m),
/// bytes 48..51 weights 240..255 (240 + 4n + m).
void decode_tq1_0_block(const uint8_t* block, int8_t* trits);
void encode_tq1_0_block(const int8_t* trits, uint8_t* block);

}  // namespace bitnet
