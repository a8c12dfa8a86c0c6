#include "bitnet/quant/packed_ternary.h"

#include "bitnet/core/error.h"
#include "core/little_endian.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr uint32_t kZeroWord = 0x55555555u;  // sixteen codes 1 = sixteen weights 0

/// Codes (trit + 1) of four trits, added byte by byte: the carry of -1 + 1 must not reach the next byte.
uint32_t codes_of(const int8_t* trits) {
  const auto four = load_le<uint32_t>(reinterpret_cast<const std::byte*>(trits));
  return ((four & 0x7f7f7f7fu) + 0x01010101u) ^ (four & 0x80808080u);
}

/// Packs sixteen trits and collects in `bad` the bits that no code 0, 1, 2 has.
uint32_t pack_word(const int8_t* trits, uint32_t& bad) {
  const uint32_t w0 = codes_of(trits);
  const uint32_t w1 = codes_of(trits + 4);
  const uint32_t w2 = codes_of(trits + 8);
  const uint32_t w3 = codes_of(trits + 12);
  const uint32_t word = w0 | w1 << 2 | w2 << 4 | w3 << 6;
  bad |= ((w0 | w1 | w2 | w3) & 0xfcfcfcfcu) | (word & word >> 1 & kZeroWord);
  return word;
}

int64_t checked_dimension(int64_t value, const char* name) {
  if (value <= 0 || value > (int64_t{1} << 31)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a ternary matrix needs 1 to 2^31 {}, not {}", name, value));
  }
  return value;
}

}  // namespace

PackedTernary::PackedTernary(int64_t rows, int64_t cols)
    : rows_(checked_dimension(rows, "rows")),
      cols_(checked_dimension(cols, "columns")),
      buffer_(static_cast<size_t>(bytes())),
      scales_(static_cast<size_t>(groups() * kGroupRows)) {}

void PackedTernary::set_group(int64_t group, std::span<const int8_t> trits, std::span<const float> scales) {
  if (group < 0 || group >= groups()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("group {} of {}", group, groups()));
  }
  const int64_t count = std::min<int64_t>(kGroupRows, rows_ - group * kGroupRows);
  if (std::ssize(trits) != count * cols_ || std::ssize(scales) != count) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("group {} takes {} x {} trits and {} scales, but {} and {} came", group, count,
                            cols_, count, trits.size(), scales.size()));
  }
  std::byte* const blocks = buffer_.data() + group * group_bytes();
  const int64_t whole_blocks = cols_ / kBlockCols;
  const int64_t all_blocks = padded_cols() / kBlockCols;
  uint32_t bad = 0;
  for (int64_t r = 0; r < count; ++r) {
    const int8_t* const row = trits.data() + r * cols_;
    std::byte* const words = blocks + 4 * r;
    for (int64_t b = 0; b < whole_blocks; ++b) {
      store_le(words + b * kBlockBytes, pack_word(row + b * kBlockCols, bad));
    }
    if (whole_blocks < all_blocks) {
      std::array<int8_t, kBlockCols> tail{};
      std::copy(row + whole_blocks * kBlockCols, row + cols_, tail.begin());
      store_le(words + whole_blocks * kBlockBytes, pack_word(tail.data(), bad));
    }
  }
  for (int64_t r = count; r < kGroupRows; ++r) {
    for (int64_t b = 0; b < all_blocks; ++b) store_le(blocks + 4 * r + b * kBlockBytes, kZeroWord);
  }
  if (bad != 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("group {} has trits other than -1, 0, +1", group));
  }
  std::copy(scales.begin(), scales.end(), scales_.begin() + group * kGroupRows);
}

void PackedTernary::get_row(int64_t row, std::span<int8_t> trits) const {
  if (row < 0 || row >= rows_ || std::ssize(trits) != cols_) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("row {} with room for {} trits, of a matrix [{}, {}]", row, trits.size(), rows_, cols_));
  }
  const uint8_t* const group = data() + row / kGroupRows * group_bytes();
  for (int64_t c = 0; c < cols_; ++c) {
    const int64_t within = c % kBlockCols;
    const int byte = group[c / kBlockCols * kBlockBytes + 4 * (row % kGroupRows) + within % 4];
    trits[static_cast<size_t>(c)] = static_cast<int8_t>((byte >> 2 * (within / 4) & 3) - 1);
  }
}

}  // namespace bitnet
