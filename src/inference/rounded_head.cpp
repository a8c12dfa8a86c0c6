#include "inference/rounded_head.h"

#include "bitnet/quant/block_formats.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace bitnet {
namespace {

constexpr int64_t kUnitCols = RoundedHead::kUnitBlocks * RoundedHead::kBlockCols;
constexpr int64_t kBlockBytes = RoundedHead::kGroupRows * RoundedHead::kBlockCols / 2;
constexpr int64_t kUnitBytes = RoundedHead::kUnitBlocks * (kBlockBytes + RoundedHead::kGroupRows);
constexpr float kLeast = 1e-30f, kLargest = 1e10f;
constexpr float kHalfRange = 7.5f;      // of a block's weights, in steps
constexpr float kMostMultiplier = 127;  // multipliers are int8

/// The largest magnitude, by bit pattern: NaN is greater than everything. Signed integers, because SSE2
/// compares no others.
float largest_magnitude(std::span<const float> values) {
  int32_t largest = 0;
  for (const float value : values) largest = std::max(largest, std::bit_cast<int32_t>(value) & 0x7fffffff);
  return std::bit_cast<float>(largest);
}

/// 16 bits for each column from SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, 2014): the same for every row, which the bound allows, and on every machine.
int32_t centre_of(uint64_t column) {
  uint64_t z = (column + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return static_cast<int32_t>((7u << 17) + 2 * (z >> 48) + 1);
}

/// 4 L + R of a block: floor(4 t + 2) for t = w * inverse + c in [-1/2, 15 1/2) (docs/NUMERICS.md).
/// Conversion to an integer cuts off, of values that are not negative.
void round_block(const float* w, const float* centres, float inverse, uint8_t* codes) {
  for (int64_t k = 0; k < RoundedHead::kBlockCols; ++k)
    codes[k] = static_cast<uint8_t>(static_cast<int32_t>(4 * (w[k] * inverse + centres[k]) + 2));
}

/// L of a block of one row, eight columns in four bytes.
void pack_block(const uint8_t* codes, int64_t row, uint8_t* block) {
  for (int64_t i = 0; i < 4; ++i) {
    uint32_t four[2];
    std::memcpy(four, codes + 8 * i, sizeof four);
    const uint32_t packed = (four[0] >> 2 & 0x0f0f0f0fu) | (four[1] << 2 & 0xf0f0f0f0u);
    std::memcpy(block + 64 * i + 4 * row, &packed, sizeof packed);
  }
}

/// R of a unit of one row (rounded_head.h).
void pack_fine(const uint8_t* codes, uint8_t* fine) {
  uint16_t words[kUnitCols / 8] = {};
  for (int s = 7; s >= 0; --s) {
    for (int j = 0; j < 16; ++j) words[j] = static_cast<uint16_t>(words[j] << 2 | (codes[16 * s + j] & 3));
  }
  std::memcpy(fine, words, sizeof words);
}

}  // namespace

bool RoundedHead::suits(const DenseMatrix& head) {
  const bool longer = head.dtype == DType::kF32 || head.dtype == DType::kF16 || head.dtype == DType::kBF16 ||
                      head.dtype == DType::kQ8_0 || head.dtype == DType::kQ6_K;
  return longer && head.cols < (1 << 16);
}

RoundedHead::RoundedHead(const DenseMatrix& head)
    : groups_((head.rows + kGroupRows - 1) / kGroupRows),
      units_((head.cols + kUnitCols - 1) / kUnitCols),
      weights_(static_cast<size_t>(groups_ * units_ * kUnitBytes)),
      fine_(static_cast<size_t>(groups_ * kGroupRows * fine_bytes())),
      scale_(static_cast<size_t>(groups_ * kGroupRows)),
      centres_(static_cast<size_t>(units_ * kUnitCols)),
      centre_values_(centres_.size()) {
  for (size_t k = 0; k < centres_.size(); ++k) {
    centres_[k] = centre_of(k);
    centre_values_[k] = static_cast<float>(centres_[k]) * kCentreUnit;
  }
}

RoundedHead::RoundedHead(const DenseMatrix& head, const std::function<void(std::span<std::byte>)>& read)
    : RoundedHead(head) {
  read({weights_.data(), weights_.size()});
  read({fine_.data(), fine_.size()});
  read(std::as_writable_bytes(std::span(scale_)));
}

std::array<std::span<const std::byte>, 3> RoundedHead::parts() const {
  return {std::span(weights_.data(), weights_.size()), std::span(fine_.data(), fine_.size()),
          std::as_bytes(std::span(scale_))};
}

RoundedHead::RoundedHead(const DenseMatrix& head, ThreadPool& pool, const DoneWith& done_with)
    : RoundedHead(head) {
  pool.for_range(groups_, 1, [&](int64_t begin, int64_t end) {
    // With zeros up to whole units.
    std::vector<float> padded(centres_.size());
    const std::span<float> row = std::span(padded).first(static_cast<size_t>(head.cols));
    // In steps, so that the caller can give pages back before all are read.
    constexpr int64_t kStepGroups = 64;
    for (int64_t first = begin; first < end; first += kStepGroups) {
      const int64_t first_row = first * kGroupRows;
      const int64_t last_row = std::min(std::min(first + kStepGroups, end) * kGroupRows, head.rows);
      for (int64_t index = first_row; index < last_row; ++index) {
        dequantize_row(head.dtype, head.row(index), row);
        store_row(padded, largest_magnitude(row), index);
      }
      done_with(head.bytes.subspan(static_cast<size_t>(first_row * head.row_bytes),
                                   static_cast<size_t>((last_row - first_row) * head.row_bytes)));
    }
  });
}

void RoundedHead::store_row(std::span<const float> row, float largest, int64_t index) {
  float& scale = scale_[static_cast<size_t>(index)];
  scale = 0;
  if (largest == 0) return;
  scale = std::numeric_limits<float>::quiet_NaN();
  if (!(largest >= kLeast && largest <= kLargest)) return;
  scale = std::nextafter(static_cast<float>(double{largest} / double{kHalfRange * kMostMultiplier}),
                         std::numeric_limits<float>::infinity());
  uint8_t* unit = weights_.as<uint8_t>() + index / kGroupRows * units_ * kUnitBytes;
  uint8_t* fine = fine_.as<uint8_t>() + index * fine_bytes();
  const int64_t r = index % kGroupRows;
  const double inverse = 1 / (double{kHalfRange} * scale);
  for (int64_t u = 0; u < units_; ++u, unit += kUnitBytes) {
    uint8_t codes[kUnitCols] = {};
    for (int64_t b = 0; b < kUnitBlocks; ++b) {
      const auto first = static_cast<size_t>(u * kUnitCols + b * kBlockCols);
      const float of_block = largest_magnitude(row.subspan(first, kBlockCols));
      const double steps = of_block * inverse;
      const auto below = static_cast<int32_t>(steps), m = below + (steps > below ? 1 : 0);
      if (m == 0) continue;
      uint8_t* const of = codes + b * kBlockCols;
      round_block(row.data() + first, centre_values_.data() + first, 1 / (static_cast<float>(m) * scale), of);
      pack_block(of, r, unit + b * kBlockBytes);
      unit[kUnitBlocks * kBlockBytes + b * kGroupRows + r] = static_cast<uint8_t>(m);
      fine[units_ * kFineUnitBytes + u * kUnitBlocks + b] = static_cast<uint8_t>(m);
    }
    pack_fine(codes, fine + u * kFineUnitBytes);
  }
}

int64_t RoundedHead::fine_sum(int64_t row, const int16_t* x) const {
  const uint8_t* fine = fine_.as<uint8_t>() + row * fine_bytes();
  const uint8_t* multipliers = fine + units_ * kFineUnitBytes;
  int64_t total = 0;
  for (int64_t u = 0; u < units_; ++u, fine += kFineUnitBytes, x += kUnitCols) {
    uint16_t words[kUnitCols / 8];
    int16_t codes[kUnitCols];
    std::memcpy(words, fine, sizeof words);
    for (int s = 0; s < 8; ++s) {
      // Shifts by a constant, in the words' own width: compilers vectorize that.
      for (int j = 0; j < 16; ++j) {
        codes[16 * s + j] = static_cast<int16_t>(2 * (words[j] & 3) - 3);
        words[j] = static_cast<uint16_t>(words[j] >> 2);
      }
    }
    for (int64_t b = 0; b < kUnitBlocks; ++b) {
      int32_t sum = 0;  // |sum| <= 3 * 32 * 16383
      for (int64_t k = b * kBlockCols; k < (b + 1) * kBlockCols; ++k) sum += int32_t{codes[k]} * x[k];
      total += int64_t{multipliers[u * kUnitBlocks + b]} * sum;
    }
  }
  return total;
}

void RoundedHead::prefetch(int64_t row) const {
  constexpr int64_t kLine = 64;
  const std::byte* fine = fine_.data() + row * fine_bytes();
  for (int64_t i = 0; i < fine_bytes() + kLine; i += kLine) __builtin_prefetch(fine + i);
}

double RoundedHead::weigh(int64_t row, const float* weight) const {
  const uint8_t* multipliers = fine_.as<uint8_t>() + row * fine_bytes() + units_ * kFineUnitBytes;
  double sum = 0;
  for (int64_t b = 0; b < units_ * kUnitBlocks; ++b)
    sum += static_cast<double>(multipliers[b] * multipliers[b]) * weight[b];
  return sum;
}

int64_t RoundedHead::scan_bytes() const {
  return static_cast<int64_t>(weights_.size() + scale_.size() * sizeof(float));
}

}  // namespace bitnet
