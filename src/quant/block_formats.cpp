#include "bitnet/quant/block_formats.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "core/little_endian.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int kSmallBlock = 32;   // Q4_0, Q8_0
constexpr int kSuperBlock = 256;  // Q6_K
constexpr int kSubBlock = 16;     // weights that share one int8 scale in Q6_K
constexpr int kSubBlocks = kSuperBlock / kSubBlock;

// Q6_K, 210 bytes: low nibbles, high bit pairs, sub-block scales, then the f16 scale.
constexpr int kQ6High = 128;
constexpr int kQ6Scales = 192;
constexpr int kQ6Scale = 208;

int byte_at(const std::byte* bytes, int index) {
  return std::to_integer<int>(bytes[index]);
}

/// Weight i of a Q6_K block lies in half h = i / 128, quarter t = i / 32 % 4 of it, at l = i % 32: its low
/// nibble in byte 64h + l (t = 0, 2) or 64h + 32 + l (t = 1, 3), lower bits for t < 2; its high bits in byte
/// 32h + l at 2t.
struct Q6Position {
  int low_byte, low_shift, high_byte, high_shift;
};

constexpr Q6Position q6_position(int i) {
  const int half = i / 128;
  const int quarter = i / 32 % 4;
  const int lane = i % 32;
  return {64 * half + 32 * (quarter % 2) + lane, 4 * (quarter / 2), kQ6High + 32 * half + lane, 2 * quarter};
}

void dequantize_q8_0(const std::byte* block, float* out) {
  const float scale = f16_to_f32(load_le<uint16_t>(block));
  for (int i = 0; i < kSmallBlock; ++i) out[i] = scale * static_cast<float>(load_le<int8_t>(block + 2 + i));
}

void dequantize_q4_0(const std::byte* block, float* out) {
  const float scale = f16_to_f32(load_le<uint16_t>(block));
  for (int i = 0; i < kSmallBlock / 2; ++i) {
    const int pair = byte_at(block, 2 + i);
    out[i] = scale * static_cast<float>((pair & 15) - 8);
    out[i + kSmallBlock / 2] = scale * static_cast<float>((pair >> 4) - 8);
  }
}

/// Codes of a half block (q6_position), in loops that compilers vectorize.
void unpack_q6_half(const uint8_t* low, const uint8_t* high, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) {
    codes[i] = static_cast<uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
    codes[i + 32] = static_cast<uint8_t>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
    codes[i + 64] = static_cast<uint8_t>(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
    codes[i + 96] = static_cast<uint8_t>(low[i + 32] >> 4 | high[i] >> 6 << 4);
  }
}

void dequantize_q6_k(const std::byte* block, float* out) {
  // Exact: 11 bits of scale, 7 of sub-scale and 5 of quant (or powers of two) fit the 24 of binary32.
  const float scale = f16_to_f32(load_le<uint16_t>(block + kQ6Scale));
  const auto* bytes = reinterpret_cast<const uint8_t*>(block);
  uint8_t codes[kSuperBlock];
  unpack_q6_half(bytes, bytes + kQ6High, codes);
  unpack_q6_half(bytes + 64, bytes + kQ6High + 32, codes + 128);
  for (int s = 0; s < kSubBlocks; ++s) {
    const float sub_scale = scale * static_cast<float>(load_le<int8_t>(block + kQ6Scales + s));
    for (int i = s * kSubBlock; i < (s + 1) * kSubBlock; ++i)
      out[i] = sub_scale * static_cast<float>(codes[i] - 32);
  }
}

/// f16_to_f32() without branches. An exponent of 31 becomes 143 by the product and 255 by the mask.
float widen_f16(uint16_t bits) {
  const int32_t magnitude = bits & 0x7fff;
  const float finite = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  const int32_t special = magnitude >= 0x7c00 ? 0x7f800000 : 0, quiet = magnitude > 0x7c00 ? 0x400000 : 0;
  return std::bit_cast<float>(std::bit_cast<int32_t>(finite) | special | quiet |
                              static_cast<int32_t>((bits & 0x8000u) << 16));
}

/// A row of two-byte weights.
template <class Widen>
void dequantize_halves(std::span<const std::byte> row, std::span<float> out, Widen widen) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = widen(load_le<uint16_t>(row.data() + 2 * i));
}

/// The scale as it will be read back. A finite scale that becomes infinite would turn a block into NaN.
uint16_t block_scale_bits(DType dtype, float scale) {
  const uint16_t bits = f32_to_f16(scale);
  if (!std::isfinite(f16_to_f32(bits))) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("a block of {} needs a finite f16 scale, but its weights ask for {}",
                            to_string(dtype), scale),
                "store this tensor as f32 or bf16, or look for NaN and infinity in it");
  }
  return bits;
}

/// The element of greatest magnitude, with its sign. NaN if there is one, so that block_scale_bits() refuses
/// it.
float signed_extreme(const float* values, int count) {
  float extreme = 0;
  for (int i = 0; i < count; ++i) {
    if (std::isnan(values[i])) return values[i];
    if (std::fabs(values[i]) > std::fabs(extreme)) extreme = values[i];
  }
  return extreme;
}

void quantize_q8_0(const float* values, std::byte* block) {
  const float scale = std::fabs(signed_extreme(values, kSmallBlock)) / 127.0f;
  store_le(block, block_scale_bits(DType::kQ8_0, scale));
  // The quotients use the scale before its rounding to f16, as ggml's reference does. A subnormal scale has
  // an infinite inverse; its f16 is 0, and the block is 0.
  const float inverse = 1.0f / scale;
  for (int i = 0; i < kSmallBlock; ++i) {
    const float quant = std::isfinite(inverse) ? std::round(values[i] * inverse) : 0.0f;
    store_le(block + 2 + i, static_cast<int8_t>(quant));
  }
}

void quantize_q4_0(const float* values, std::byte* block) {
  // The extreme becomes code 0 = -8, so that it is met exactly but for the scale's rounding.
  const float scale = signed_extreme(values, kSmallBlock) / -8.0f;
  store_le(block, block_scale_bits(DType::kQ4_0, scale));
  const float inverse = 1.0f / scale;
  const auto code = [inverse](float value) {
    if (!std::isfinite(inverse)) return 8;
    return std::clamp(static_cast<int>(value * inverse + 8.5f), 0, 15);
  };
  for (int i = 0; i < kSmallBlock / 2; ++i) {
    block[2 + i] = static_cast<std::byte>(code(values[i]) | code(values[i + kSmallBlock / 2]) << 4);
  }
}

/// Half to even, for |value| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction. nearbyint() is a call
/// on baseline x86-64 and takes most of the time of the search below.
int nearest(float value, int low, int high) {
  constexpr float kNoFraction = 12582912.0f;
  return std::clamp(static_cast<int>((value + kNoFraction) - kNoFraction), low, high);
}

/// The scale s that makes sum w_i (x_i - s q_i)^2, w_i = x_i^2, smallest over q_i = round(x_i / t) in [-32,
/// 31], t tried at 19 steps around extreme / -32. For fixed q the best s is P / Q with P = sum w x q, Q = sum
/// w q^2, and the error then is a constant - P^2 / Q.
float sub_block_scale(const float* values) {
  const float extreme = signed_extreme(values, kSubBlock);
  // Below this the squares below underflow; such a sub-block is 0 beside any other.
  if (std::fabs(extreme) < 1e-15f) return 0;
  float best_scale = 0;
  double best_gain = 0;
  for (int step = -9; step <= 9; ++step) {
    const float inverse = -(32.0f + 0.1f * static_cast<float>(step)) / extreme;
    double cross = 0;
    double square = 0;
    for (int i = 0; i < kSubBlock; ++i) {
      const double x = values[i];
      const int quant = nearest(values[i] * inverse, -32, 31);
      cross += x * x * x * quant;
      square += x * x * quant * quant;
    }
    if (square > 0 && cross * cross > best_gain * square) {
      best_gain = cross * cross / square;
      best_scale = static_cast<float>(cross / square);
    }
  }
  return best_scale;
}

void quantize_q6_k(const float* values, std::byte* block) {
  // Refuses NaN and infinity before any of them meets an integer conversion.
  (void)block_scale_bits(DType::kQ6_K, signed_extreme(values, kSuperBlock) / (32.0f * 128.0f));
  std::array<float, kSubBlocks> wanted{};
  for (int s = 0; s < kSubBlocks; ++s)
    wanted[static_cast<size_t>(s)] = sub_block_scale(values + s * kSubBlock);
  // The greatest sub-scale becomes -128, the code that int8 has once more on that side.
  const float scale = signed_extreme(wanted.data(), kSubBlocks) / -128.0f;
  const uint16_t scale_bits = block_scale_bits(DType::kQ6_K, scale);
  const float stored_scale = f16_to_f32(scale_bits);
  std::fill_n(block, dtype_info(DType::kQ6_K).block_bytes, std::byte{0});
  store_le(block + kQ6Scale, scale_bits);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int s = i / kSubBlock;
    const int sub_scale = scale == 0 ? 0 : nearest(wanted[static_cast<size_t>(s)] / scale, -128, 127);
    store_le(block + kQ6Scales + s, static_cast<int8_t>(sub_scale));
    const float step = stored_scale * static_cast<float>(sub_scale);
    const int code = 32 + (step == 0 ? 0 : nearest(values[i] / step, -32, 31));
    const Q6Position at = q6_position(i);
    block[at.low_byte] |= static_cast<std::byte>((code & 15) << at.low_shift);
    block[at.high_byte] |= static_cast<std::byte>((code >> 4) << at.high_shift);
  }
}

uint16_t checked_f16(float value) {
  const uint16_t bits = f32_to_f16(value);
  if (std::isfinite(value) && !std::isfinite(f16_to_f32(bits))) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("f16 holds magnitudes up to 65504, but a weight is {}", value),
                "store this tensor as f32 or bf16");
  }
  return bits;
}

void check_sizes(DType dtype, size_t weights, size_t bytes) {
  const DTypeInfo& info = dtype_info(dtype);
  const auto block = static_cast<size_t>(info.block_elements);
  if (weights % block != 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("a row of {} must be a multiple of {} weights, but has {}", info.name, block, weights));
  }
  const size_t needed = weights / block * static_cast<size_t>(info.block_bytes);
  if (bytes < needed) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} weights of {} take {} bytes, but the span has {}", weights, info.name, needed,
                            bytes));
  }
}

[[noreturn]] void throw_not_dense(DType dtype) {
  throw Error(ErrorCode::kDTypeMismatch,
              fmt::format("{} is not a dense floating-point format", to_string(dtype)),
              "f32, f16, bf16, f64, q8_0, q6_k and q4_0 are; ternary types have decode_ternary_row()");
}

/// Calls convert(block of weights, block of bytes) for each block of the row.
template <class Weight, class Byte, class Convert>
void for_each_block(DType dtype, std::span<Weight> weights, std::span<Byte> bytes, Convert&& convert) {
  check_sizes(dtype, weights.size(), bytes.size());
  const auto elements = static_cast<size_t>(dtype_info(dtype).block_elements);
  const auto block_bytes = static_cast<size_t>(dtype_info(dtype).block_bytes);
  for (size_t b = 0; b < weights.size() / elements; ++b) {
    convert(weights.data() + b * elements, bytes.data() + b * block_bytes);
  }
}

}  // namespace

void dequantize_row(DType dtype, std::span<const std::byte> row, std::span<float> out) {
  // Rows of an embedding and a head come this way by the hundred thousand while a model loads.
  const auto decode = [&](auto&& block) { for_each_block(dtype, out, row, block); };
  using In = const std::byte*;
  switch (dtype) {
    case DType::kF32:
      return decode([](float* y, In x) { *y = load_le<float>(x); });
    case DType::kF16:
      check_sizes(dtype, out.size(), row.size());
      return dequantize_halves(row, out, widen_f16);
    case DType::kBF16:
      check_sizes(dtype, out.size(), row.size());
      return dequantize_halves(row, out,
                               [](uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); });
    case DType::kF64:
      return decode([](float* y, In x) { *y = static_cast<float>(load_le<double>(x)); });
    case DType::kQ8_0:
      return decode([](float* y, In x) { dequantize_q8_0(x, y); });
    case DType::kQ4_0:
      return decode([](float* y, In x) { dequantize_q4_0(x, y); });
    case DType::kQ6_K:
      return decode([](float* y, In x) { dequantize_q6_k(x, y); });
    default:
      throw_not_dense(dtype);
  }
}

void quantize_row(DType dtype, std::span<const float> row, std::span<std::byte> out) {
  const auto encode = [&](auto&& block) { for_each_block(dtype, row, out, block); };
  using In = const float*;
  using Out = std::byte*;
  switch (dtype) {
    case DType::kF32:
      return encode([](In x, Out y) { store_le(y, *x); });
    case DType::kF16:
      return encode([](In x, Out y) { store_le(y, checked_f16(*x)); });
    case DType::kBF16:
      return encode([](In x, Out y) { store_le(y, f32_to_bf16(*x)); });
    case DType::kF64:
      return encode([](In x, Out y) { store_le(y, static_cast<double>(*x)); });
    case DType::kQ8_0:
      return encode([](In x, Out y) { quantize_q8_0(x, y); });
    case DType::kQ4_0:
      return encode([](In x, Out y) { quantize_q4_0(x, y); });
    case DType::kQ6_K:
      return encode([](In x, Out y) { quantize_q6_k(x, y); });
    default:
      throw_not_dense(dtype);
  }
}

}  // namespace bitnet
