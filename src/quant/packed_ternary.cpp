#include "bitnet/quant/packed_ternary.h"

#include "bitnet/core/error.h"
#include "core/little_endian.h"

#include <algorithm>
#include <array>
#include <utility>

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

/// The rows given to set_group(), a word for each 16 columns.
class Rows {
 public:
  Rows(std::span<const int8_t> trits, int64_t count, int64_t cols)
      : trits_(trits), count_(count), cols_(cols) {}

  /// Columns [16 block, 16 block + 16) of a row; padded where the matrix ends.
  [[nodiscard]] uint32_t word(int64_t row, int64_t block) {
    if (row >= count_) return kZeroWord;
    const int64_t first = block * PackedTernary::kBlockCols;
    const int8_t* const source = trits_.data() + row * cols_ + first;
    if (first + PackedTernary::kBlockCols <= cols_) return pack_word(source, bad_);
    std::array<int8_t, PackedTernary::kBlockCols> tail{};
    std::copy(source, source + (cols_ - first), tail.begin());
    return pack_word(tail.data(), bad_);
  }
  [[nodiscard]] bool bad() const { return bad_ != 0; }

 private:
  std::span<const int8_t> trits_;
  int64_t count_, cols_;
  uint32_t bad_ = 0;
};

/// kBlocks and kRows: the same words, a block or a word apart, rows a word or `row_bytes` apart.
void store_words(Rows& rows, int64_t blocks, int64_t row_bytes, int64_t block_bytes, std::byte* out) {
  for (int64_t r = 0; r < PackedTernary::kGroupRows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) store_le(out + r * row_bytes + b * block_bytes, rows.word(r, b));
  }
}

/// Swaps fields of `width` bits: those of `a` above `width` with those of `b` below, where the mask has them.
void exchange(uint32_t& a, uint32_t& b, int width, uint32_t mask) {
  const uint32_t differences = ((a >> width) ^ b) & mask;
  b ^= differences;
  a ^= differences << width;
}

/// Field s of word t <-> field t of word s, in fields of 2 bits of each byte (width 2) or of 8 bits.
void transpose_4x4(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d, int width) {
  const uint32_t odd = width == 2 ? 0x33333333u : 0x00ff00ffu;
  const uint32_t upper = width == 2 ? 0x0f0f0f0fu : 0x0000ffffu;
  exchange(a, b, width, odd);
  exchange(c, d, width, odd);
  exchange(a, c, 2 * width, upper);
  exchange(b, d, 2 * width, upper);
}

/// The 16 bytes at u of each lane of 16 columns' lines, from the words of rows [64 u, 64 u + 64) of a line.
void store_quarter_line(std::array<uint32_t, 64>& words, int64_t stride, std::byte* out) {
  // Word 16 s + r holds columns 4 t + j in fields t: afterwards word 16 t + r holds rows 16 s + r in fields
  // s.
  for (size_t r = 0; r < 16; ++r) transpose_4x4(words[r], words[16 + r], words[32 + r], words[48 + r], 2);
  for (size_t t = 0; t < 4; ++t) {
    for (size_t l = 0; l < 4; ++l) {
      uint32_t* const four = words.data() + 16 * t + 4 * l;
      transpose_4x4(four[0], four[1], four[2], four[3], 8);
      for (size_t j = 0; j < 4; ++j)
        store_le(out + static_cast<int64_t>(4 * t + j) * stride + static_cast<int64_t>(16 * l), four[j]);
    }
  }
}

void store_columns(Rows& rows, int64_t blocks, int64_t stride, std::byte* line) {
  // A whole cache line of each row at a time: 64 columns.
  constexpr int64_t kStep = 4;
  std::array<std::array<uint32_t, 64>, kStep> words;
  for (int64_t first = 0; first < blocks; first += kStep) {
    const int64_t count = std::min(kStep, blocks - first);
    for (int64_t u = 0; u < 4; ++u) {
      for (int64_t r = 0; r < 64; ++r) {
        for (int64_t i = 0; i < count; ++i)
          words[static_cast<size_t>(i)][static_cast<size_t>(r)] = rows.word(64 * u + r, first + i);
      }
      for (int64_t i = 0; i < count; ++i) {
        store_quarter_line(words[static_cast<size_t>(i)], stride,
                           line + (first + i) * PackedTernary::kBlockCols * stride + 4 * u);
      }
    }
  }
}

int64_t checked_dimension(int64_t value, const char* name) {
  if (value <= 0 || value > (int64_t{1} << 31)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a ternary matrix needs 1 to 2^31 {}, not {}", name, value));
  }
  return value;
}

}  // namespace

std::string_view to_string(TernaryLayout layout) {
  switch (layout) {
    case TernaryLayout::kBlocks:
      return "t2x16";
    case TernaryLayout::kRows:
      return "t2row";
    default:
      return "t2col";
  }
}

PackedTernary::PackedTernary(int64_t rows, int64_t cols, TernaryLayout layout, Arena* arena)
    : rows_(checked_dimension(rows, "rows")),
      cols_(checked_dimension(cols, "columns")),
      layout_(layout),
      buffer_(arena == nullptr ? static_cast<size_t>(bytes()) : 0),
      codes_(arena == nullptr ? buffer_.data()
                              : arena->allocate<std::byte>(static_cast<size_t>(bytes())).data()),
      scales_(static_cast<size_t>(groups() * group_rows())) {}

void PackedTernary::set_group(int64_t group, std::span<const int8_t> trits, std::span<const float> scales) {
  if (group < 0 || group >= groups()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("group {} of {}", group, groups()));
  }
  const int64_t count = std::min(group_rows(), rows_ - group * group_rows());
  if (std::ssize(trits) != count * cols_ || std::ssize(scales) != count) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("group {} takes {} x {} trits and {} scales, but {} and {} came", group, count,
                            cols_, count, trits.size(), scales.size()));
  }
  Rows rows(trits, count, cols_);
  const int64_t blocks = padded_cols() / kBlockCols;
  switch (layout_) {
    case TernaryLayout::kBlocks:
      store_words(rows, blocks, 4, kBlockBytes, codes_ + group * group_bytes());
      break;
    case TernaryLayout::kRows:
      store_words(rows, blocks, stride(), 4, codes_ + group * group_bytes());
      break;
    case TernaryLayout::kColumns:
      store_columns(rows, blocks, stride(), codes_ + group * kLineRows / 4);
      break;
  }
  if (rows.bad()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("group {} has trits other than -1, 0, +1", group));
  }
  std::copy(scales.begin(), scales.end(), scales_.begin() + group * group_rows());
}

void PackedTernary::get_row(int64_t row, std::span<int8_t> trits) const {
  if (row < 0 || row >= rows_ || std::ssize(trits) != cols_) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("row {} with room for {} trits, of a matrix [{}, {}]", row, trits.size(), rows_, cols_));
  }
  // Offset of the byte and number of the field that hold a column.
  const auto place = [&](int64_t c) -> std::pair<int64_t, int64_t> {
    if (layout_ == TernaryLayout::kColumns) {
      const int64_t r = row % kLineRows;
      return {c * stride() + row / kLineRows * kLineRows / 4 + r % 16 / 4 * 16 + r / 64 * 4 + r % 4,
              r / 16 % 4};
    }
    const int64_t b = c / kBlockCols, s = c % kBlockCols / 4, j = c % 4;
    if (layout_ == TernaryLayout::kRows) return {row * stride() + 4 * b + j, s};
    return {row / kGroupRows * group_bytes() + b * kBlockBytes + 4 * (row % kGroupRows) + j, s};
  };
  for (int64_t c = 0; c < cols_; ++c) {
    const auto [offset, field] = place(c);
    trits[static_cast<size_t>(c)] = static_cast<int8_t>((data()[offset] >> (2 * field) & 3) - 1);
  }
}

}  // namespace bitnet
