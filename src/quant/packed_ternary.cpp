#include "bitnet/quant/packed_ternary.h"

#include "bitnet/core/error.h"
#include "core/little_endian.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int64_t kUnitBlocks = PackedTernary::kUnitCols / PackedTernary::kBlockCols;
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

/// Four codes of a word of sixteen columns, columns 4s .. 4s + 3, each in a byte.
uint32_t four_codes(uint32_t word, size_t s) {
  return word >> (2 * s) & 0x03030303u;
}

/// The lines of a unit of kTight of one row, from its words of sixteen columns. No sum reaches the next byte.
std::array<uint32_t, 5> unit_lines(const std::array<uint32_t, 6>& words) {
  std::array<uint32_t, 8> index{};
  for (size_t i = 0; i < index.size(); ++i) {
    const auto codes = [&](size_t k) { return four_codes(words[(3 * i + k) / 4], (3 * i + k) % 4); };
    index[i] = codes(0) + 3 * codes(1) + 9 * codes(2);
  }
  return {index[0] | (index[5] & 0x1c1c1c1cu) << 3,
          index[1] | (index[7] & 0x08080808u) << 2 | (index[5] & 0x03030303u) << 6,
          index[2] | (index[6] & 0x1c1c1c1cu) << 3,
          index[3] | (index[7] & 0x10101010u) << 1 | (index[6] & 0x03030303u) << 6,
          index[4] | (index[7] & 0x07070707u) << 5};
}

/// kTight: units, then blocks.
void store_units(Rows& rows, int64_t blocks, std::byte* out) {
  const int64_t units = blocks / kUnitBlocks;
  std::byte* const rest =
      out + units * (PackedTernary::kUnitBytes - kUnitBlocks * PackedTernary::kBlockBytes);
  for (int64_t r = 0; r < PackedTernary::kGroupRows; ++r) {
    for (int64_t u = 0; u < units; ++u) {
      std::array<uint32_t, kUnitBlocks> words{};
      for (int64_t b = 0; b < kUnitBlocks; ++b)
        words[static_cast<size_t>(b)] = rows.word(r, kUnitBlocks * u + b);
      const std::array<uint32_t, 5> lines = unit_lines(words);
      for (size_t v = 0; v < lines.size(); ++v)
        store_le(out + u * PackedTernary::kUnitBytes + static_cast<int64_t>(64 * v) + 4 * r, lines[v]);
    }
    for (int64_t b = units * kUnitBlocks; b < blocks; ++b)
      store_le(rest + b * PackedTernary::kBlockBytes + 4 * r, rows.word(r, b));
  }
}

/// Bytes of ones where those of x, below 128, are at least `least`.
uint32_t at_least(uint32_t x, uint32_t least) {
  return (x + (0x80u - least) * 0x01010101u) >> 7 & 0x01010101u;
}

/// The inverse of unit_lines().
std::array<uint32_t, 6> unit_words(const std::array<uint32_t, 5>& lines) {
  constexpr uint32_t kLow5 = 0x1f1f1f1fu, kHigh3 = 0x1c1c1c1cu, kLow2 = 0x03030303u;
  const std::array<uint32_t, 8> index = {
      lines[0] & kLow5,
      lines[1] & kLow5,
      lines[2] & kLow5,
      lines[3] & kLow5,
      lines[4] & kLow5,
      (lines[0] >> 3 & kHigh3) | (lines[1] >> 6 & kLow2),
      (lines[2] >> 3 & kHigh3) | (lines[3] >> 6 & kLow2),
      (lines[3] >> 1 & 0x10101010u) | (lines[1] >> 2 & 0x08080808u) | (lines[4] >> 5 & 0x07070707u)};
  std::array<uint32_t, 6> words{};
  for (size_t i = 0; i < index.size(); ++i) {
    const uint32_t nines = at_least(index[i], 9) + at_least(index[i], 18), below = index[i] - 9 * nines;
    const uint32_t threes = at_least(below, 3) + at_least(below, 6);
    const std::array<uint32_t, 3> codes = {below - 3 * threes, threes, nines};
    for (size_t k = 0; k < codes.size(); ++k) words[(3 * i + k) / 4] |= codes[k] << (2 * ((3 * i + k) % 4));
  }
  return words;
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
    case TernaryLayout::kColumns:
      return "t2col";
    default:
      return "t53x16";
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
    case TernaryLayout::kTight:
      store_units(rows, blocks, codes_ + group * group_bytes());
      break;
  }
  if (rows.bad()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("group {} has trits other than -1, 0, +1", group));
  }
  std::copy(scales.begin(), scales.end(), scales_.begin() + group * group_rows());
}

std::array<std::span<const std::byte>, 2> PackedTernary::parts() const {
  return {std::span<const std::byte>(codes_, static_cast<size_t>(bytes())),
          std::as_bytes(std::span(scales_))};
}

void PackedTernary::restore(const std::function<void(std::span<std::byte>)>& read) {
  read({codes_, static_cast<size_t>(bytes())});
  read(std::as_writable_bytes(std::span(scales_)));
}

void PackedTernary::get_row(int64_t row, std::span<int8_t> trits) const {
  if (row < 0 || row >= rows_ || std::ssize(trits) != cols_) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("row {} with room for {} trits, of a matrix [{}, {}]", row, trits.size(), rows_, cols_));
  }
  std::vector<uint32_t> words(static_cast<size_t>(padded_cols() / kBlockCols));
  row_words(row, words);
  for (size_t c = 0; c < trits.size(); ++c) {
    const uint32_t field = four_codes(words[c / kBlockCols], c % kBlockCols / 4);
    trits[c] = static_cast<int8_t>(static_cast<int>(field >> (8 * (c % 4)) & 3) - 1);
  }
}

void PackedTernary::row_words(int64_t row, std::span<uint32_t> words) const {
  const std::byte* const group = codes_ + row / group_rows() * group_bytes();
  const std::byte* const in_blocks = group + 4 * (row % kGroupRows) - units() * kUnitSaved;
  const auto blocks = std::ssize(words);
  int64_t block = 0;
  switch (layout_) {
    case TernaryLayout::kTight:
      for (; block < units() * kUnitBlocks; block += kUnitBlocks) {
        std::array<uint32_t, 5> lines{};
        for (size_t v = 0; v < lines.size(); ++v) {
          lines[v] = load_le<uint32_t>(group + block / kUnitBlocks * kUnitBytes +
                                       static_cast<int64_t>(64 * v) + 4 * (row % kGroupRows));
        }
        std::ranges::copy(unit_words(lines), words.begin() + block);
      }
      [[fallthrough]];
    case TernaryLayout::kBlocks:
      for (; block < blocks; ++block)
        words[static_cast<size_t>(block)] = load_le<uint32_t>(in_blocks + block * kBlockBytes);
      break;
    case TernaryLayout::kRows:
      for (; block < blocks; ++block)
        words[static_cast<size_t>(block)] = load_le<uint32_t>(codes_ + row * stride() + 4 * block);
      break;
    case TernaryLayout::kColumns: {
      const int64_t r = row % kLineRows;
      const std::byte* const column =
          codes_ + row / kLineRows * kLineRows / 4 + r % 16 / 4 * 16 + r / 64 * 4 + r % 4;
      for (; block < blocks; ++block) {
        uint32_t word = 0;
        for (int c = 0; c < kBlockCols; ++c) {
          const auto lines = static_cast<uint32_t>(column[(block * kBlockCols + c) * stride()]);
          word |= (lines >> (2 * (r / 16 % 4)) & 3) << (8 * (c % 4) + 2 * (c / 4));
        }
        words[static_cast<size_t>(block)] = word;
      }
      break;
    }
  }
}

}  // namespace bitnet
