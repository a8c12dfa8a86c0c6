#include "bitnet/quant/ternary_formats.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "core/little_endian.h"
#include "quant/ternary_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include <fmt/format.h>

namespace bitnet {
namespace {

const uint8_t* as_u8(const std::byte* bytes) {
  return reinterpret_cast<const uint8_t*>(bytes);
}

void check_index(const TernaryBytes& matrix, int64_t row, size_t room) {
  if (matrix.rows <= 0 || matrix.cols <= 0 || row < 0 || row >= matrix.rows ||
      static_cast<int64_t>(room) != matrix.cols) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("row {} with room for {} trits, of a matrix [{}, {}]", row, room, matrix.rows,
                            matrix.cols));
  }
}

void check_bytes(DType dtype, int64_t rows, int64_t cols, size_t found, ErrorCode code) {
  const std::array<int64_t, 2> shape = {rows, cols};
  const int64_t needed = storage_bytes(dtype, shape);
  if (static_cast<int64_t>(found) < needed) {
    throw Error(code, fmt::format("{} of shape {} takes {} bytes, but {} are there", to_string(dtype),
                                  to_string(shape), needed, found));
  }
}

/// What may lie behind weights or a scale that cannot be.
std::string damage_hint(DType dtype) {
  // Run with several threads, microsoft/BitNet's quantizer puts the threads' pieces where they would lie if a
  // weight took a byte, and stores the first quarter of that: the rest is lost, the gaps are stale memory
  // (docs/FORMATS.md).
  if (dtype == DType::kI2_S) {
    return "if microsoft/BitNet's llama-quantize made the file with more than one thread, most weights are "
           "not in it: "
           "quantize again with 1 thread, or convert the Hugging Face folder";
  }
  return "the file is damaged, or its weights lie in another layout under the same type name";
}

void check_stored_scale(DType dtype, float scale) {
  if (!std::isfinite(scale) || scale < 0) {
    throw Error(ErrorCode::kCorruptData,
                fmt::format("the scale of a {} matrix must be finite and not negative, but is {}",
                            to_string(dtype), scale),
                damage_hint(dtype));
  }
}

[[noreturn]] void throw_code_three(DType dtype, int64_t row) {
  throw Error(ErrorCode::kCorruptData,
              fmt::format("row {} holds the 2-bit code 3, but {} has only 0, 1 and 2 (for -1, 0, +1)", row,
                          to_string(dtype)),
              damage_hint(dtype));
}

/// One row of flat I2_S, which may begin and end inside a block. Returns non-zero if a touched block has a
/// code 3.
uint8_t decode_i2_s_row(const uint8_t* blocks, int64_t first, std::span<int8_t> trits) {
  uint8_t bad = 0;
  size_t done = 0;
  while (done < trits.size()) {
    const int64_t index = first + static_cast<int64_t>(done);
    const uint8_t* const block = blocks + index / kI2SBlock * kI2SBlockBytes;
    const auto skip = static_cast<size_t>(index % kI2SBlock);
    if (skip == 0 && trits.size() - done >= kI2SBlock) {
      bad |= decode_i2_s_block(block, trits.data() + done);
      done += kI2SBlock;
      continue;
    }
    std::array<int8_t, kI2SBlock> whole;
    bad |= decode_i2_s_block(block, whole.data());
    const size_t count = std::min(kI2SBlock - skip, trits.size() - done);
    std::copy_n(whole.data() + skip, count, trits.data() + done);
    done += count;
  }
  return bad;
}

/// Rows of TQ1_0 and TQ2_0: 256-weight blocks that end with their f16 scale.
float decode_tq_row(const TernaryBytes& matrix, int64_t row, std::span<int8_t> trits) {
  const int64_t block_bytes = dtype_info(matrix.dtype).block_bytes;
  const int64_t blocks = matrix.cols / kTQBlock;
  const std::byte* block = matrix.bytes.data() + row * blocks * block_bytes;
  int8_t* out = trits.data();
  uint8_t bad = 0;
  float common = 0;
  for (int64_t b = 0; b < blocks; ++b, block += block_bytes, out += kTQBlock) {
    if (matrix.dtype == DType::kTQ1_0) {
      decode_tq1_0_block(as_u8(block), out);
    } else {
      bad |= decode_tq2_0_block(as_u8(block), out);
    }
    const float scale = f16_to_f32(load_le<uint16_t>(block + block_bytes - 2));
    check_stored_scale(matrix.dtype, scale);
    if (scale == 0) std::fill_n(out, kTQBlock, int8_t{0});  // 0 * trit
    if (scale == common || std::all_of(out, out + kTQBlock, [](int8_t t) { return t == 0; })) continue;
    if (common != 0) {
      throw Error(
          ErrorCode::kUnsupported,
          fmt::format(
              "row {} of a {} matrix has blocks of different scales ({} and {}); a BitNet matrix has one",
              row, to_string(matrix.dtype), common, scale),
          "this file was quantized from a model that is not ternary; use a BitNet model");
    }
    common = scale;
  }
  if (bad != 0) throw_code_three(matrix.dtype, row);
  return common;
}

void check_trits(std::span<const int8_t> trits) {
  uint8_t bad = 0;
  for (const int8_t trit : trits) bad |= static_cast<uint8_t>(static_cast<uint8_t>(trit + 1) > 2);
  if (bad != 0) throw Error(ErrorCode::kInvalidArgument, "a weight to encode is not -1, 0 or +1");
}

/// Sets the two bits at `shift`; the other codes of the byte may belong to other rows.
void set_code(std::byte& byte, int shift, int8_t trit) {
  byte = (byte & ~static_cast<std::byte>(3 << shift)) | static_cast<std::byte>((trit + 1) << shift);
}

void encode_i2_s(int64_t first, std::span<const int8_t> trits, std::byte* out) {
  for (size_t i = 0; i < trits.size(); ++i) {
    const I2SPosition at = i2_s_position(first + static_cast<int64_t>(i));
    set_code(out[at.byte], at.shift, trits[i]);
  }
}

void encode_hf(int64_t rows, int64_t cols, int64_t first_row, std::span<const int8_t> trits, std::byte* out) {
  const int64_t quarter = rows / 4;
  const int64_t count = std::ssize(trits) / cols;
  for (int64_t r = 0; r < count; ++r) {
    const int shift = static_cast<int>(2 * ((first_row + r) / quarter));
    std::byte* const packed = out + (first_row + r) % quarter * cols;
    for (int64_t c = 0; c < cols; ++c) set_code(packed[c], shift, trits[static_cast<size_t>(r * cols + c)]);
  }
}

void encode_tq(DType dtype, std::span<const int8_t> trits, float scale, std::byte* out) {
  const uint16_t bits = f32_to_f16(scale);
  const float stored = f16_to_f32(bits);
  if (!std::isfinite(stored) || (stored == 0) != (scale == 0)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{} holds its scale as f16, which cannot hold {}", to_string(dtype), scale),
                "choose i2_s, whose scale is f32");
  }
  const int64_t block_bytes = dtype_info(dtype).block_bytes;
  for (size_t done = 0; done < trits.size(); done += kTQBlock, out += block_bytes) {
    auto* const block = reinterpret_cast<uint8_t*>(out);
    if (dtype == DType::kTQ1_0) {
      encode_tq1_0_block(trits.data() + done, block);
    } else {
      encode_tq2_0_block(trits.data() + done, block);
    }
    store_le(out + block_bytes - 2, bits);
  }
}

void encode_plain(int64_t first, std::span<const int8_t> trits, std::byte* out) {
  for (size_t i = 0; i < trits.size(); ++i) {
    const int64_t index = first + static_cast<int64_t>(i);
    set_code(out[index / 4], static_cast<int>(2 * (index % 4)), trits[i]);
  }
}

void check_rows(int64_t rows, int64_t cols, int64_t first_row, int64_t trits) {
  const bool whole_rows = rows > 0 && cols > 0 && trits % cols == 0;
  if (!whole_rows || first_row < 0 || first_row > rows || trits / cols > rows - first_row) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} trits from row {} on are not whole rows of a matrix [{}, {}]", trits,
                            first_row, rows, cols));
  }
}

}  // namespace

float decode_ternary_row(const TernaryBytes& matrix, int64_t row, std::span<int8_t> trits) {
  check_index(matrix, row, trits.size());
  check_bytes(matrix.dtype, matrix.rows, matrix.cols, matrix.bytes.size(), ErrorCode::kCorruptData);
  const std::byte* const bytes = matrix.bytes.data();
  const int64_t cols = matrix.cols;
  float scale = 1;
  uint8_t bad = 0;
  switch (matrix.dtype) {
    case DType::kI2_S:
      scale = load_le<float>(bytes + matrix.rows * cols / 4);
      bad = decode_i2_s_row(as_u8(bytes), row * cols, trits);
      break;
    case DType::kHfTernary: {
      const int64_t quarter = matrix.rows / 4;
      bad =
          decode_codes_at(as_u8(bytes + row % quarter * cols), static_cast<int>(2 * (row / quarter)), trits);
      break;
    }
    case DType::kTQ1_0:
    case DType::kTQ2_0:
      return decode_tq_row(matrix, row, trits);
    case DType::kIQ2_BN: {
      const std::byte* const start = bytes + row * (4 + cols / 4);
      scale = load_le<float>(start);
      for (int64_t b = 0; b < cols / kIQ2Block; ++b) {
        bad |= decode_iq2_bn_block(as_u8(start + 4 + b * kIQ2Block / 4), trits.data() + b * kIQ2Block);
      }
      break;
    }
    case DType::kTernary:
      bad = decode_consecutive(as_u8(bytes + row * (cols / 4)), trits);
      break;
    default:
      throw Error(ErrorCode::kDTypeMismatch,
                  fmt::format("{} is not a ternary format", to_string(matrix.dtype)),
                  "dense types have dequantize_row()");
  }
  if (bad != 0) throw_code_three(matrix.dtype, row);
  check_stored_scale(matrix.dtype, scale);
  return scale;
}

void encode_ternary_rows(DType dtype, int64_t rows, int64_t cols, int64_t first_row,
                         std::span<const int8_t> trits, float scale, std::span<std::byte> out) {
  check_rows(rows, cols, first_row, std::ssize(trits));
  check_bytes(dtype, rows, cols, out.size(), ErrorCode::kInvalidArgument);
  check_trits(trits);
  if (!std::isfinite(scale) || scale < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a scale must be finite and not negative, but is {}", scale));
  }
  const int64_t first = first_row * cols;
  switch (dtype) {
    case DType::kI2_S:
      encode_i2_s(first, trits, out.data());
      // Only one caller has row 0, so that callers on other rows do not race for the tail.
      if (first_row == 0 && !trits.empty()) store_le(out.data() + rows * cols / 4, scale);
      return;
    case DType::kHfTernary:
      return encode_hf(rows, cols, first_row, trits, out.data());
    case DType::kTQ1_0:
    case DType::kTQ2_0: {
      const DTypeInfo& info = dtype_info(dtype);
      return encode_tq(dtype, trits, scale, out.data() + first / info.block_elements * info.block_bytes);
    }
    case DType::kTernary:
      return encode_plain(first, trits, out.data());
    case DType::kIQ2_BN:
      throw Error(ErrorCode::kUnsupported, "iq2_bn is read, not written", "choose i2_s, tq1_0 or tq2_0");
    default:
      throw Error(ErrorCode::kDTypeMismatch, fmt::format("{} is not a ternary format", to_string(dtype)),
                  "dense types have quantize_row()");
  }
}

float absmean(std::span<const float> weights) {
  // Eight sums: the additions of one would wait for one another.
  std::array<double, 8> sums{};
  size_t i = 0;
  for (; i + sums.size() <= weights.size(); i += sums.size()) {
    for (size_t lane = 0; lane < sums.size(); ++lane)
      sums[lane] += std::fabs(static_cast<double>(weights[i + lane]));
  }
  for (; i < weights.size(); ++i) sums[0] += std::fabs(static_cast<double>(weights[i]));
  double total = 0;
  for (const double sum : sums) total += sum;
  if (weights.empty() || !std::isfinite(total)) {
    throw Error(ErrorCode::kInvalidArgument,
                weights.empty() ? "absmean of no weights" : "absmean of weights with NaN or infinity",
                "the weights are damaged");
  }
  return static_cast<float>(std::max(total / static_cast<double>(weights.size()), 1e-5));
}

void ternarize(std::span<const float> weights, float s, std::span<int8_t> trits) {
  if (trits.size() != weights.size() || !std::isfinite(s) || s <= 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("ternarize {} weights into {} trits by the scale {}",
                                                         weights.size(), trits.size(), s));
  }
  const float inverse = 1.0f / s;
  for (size_t i = 0; i < weights.size(); ++i) {
    // clamp(round_half_even(x), -1, 1): one half rounds to the even 0, everything beyond it to one or more.
    const float x = weights[i] * inverse;
    trits[i] = static_cast<int8_t>((x > 0.5f) - (x < -0.5f));
  }
}

}  // namespace bitnet
