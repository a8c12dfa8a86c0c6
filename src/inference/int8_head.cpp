#include "inference/int8_head.h"

#include "bitnet/quant/block_formats.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace bitnet {
namespace {

// Norms are computed in f64, wrong by less than cols * 2^-53 of themselves; this and the conversion to f32
// leave room for that.
constexpr double kRoundUp = 1 + 0x1p-20;
constexpr float kLargest = 1e10f;

float round_up_to_float(double value) {
  return std::nextafter(static_cast<float>(value * kRoundUp), std::numeric_limits<float>::infinity());
}

/// Bits of f16 and bf16 as f32, in loops that compilers vectorize. Infinity and NaN of f16 become values
/// above 65504, which decode_row() looks for.
float widen_f16(uint16_t bits) {
  const float magnitude = std::bit_cast<float>((bits & 0x7fffu) << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | (bits & 0x8000u) << 16);
}
float widen_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

template <class Widen>
void decode_halves(std::span<const std::byte> bytes, std::span<float> out, Widen widen) {
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, sizeof bits);
    out[i] = widen(bits);
  }
}

void decode_row(const DenseMatrix& head, int64_t index, std::span<float> out) {
  const std::span<const std::byte> bytes = head.row(index);
  if (head.dtype == DType::kF16) return decode_halves(bytes, out, widen_f16);
  if (head.dtype == DType::kBF16) return decode_halves(bytes, out, widen_bf16);
  dequantize_row(head.dtype, bytes, out);
}

/// The largest magnitude, by bit pattern: NaN is greater than everything.
float largest_magnitude(std::span<const float> values) {
  uint32_t largest = 0;
  for (const float value : values) largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
  return std::bit_cast<float>(largest);
}

/// Sixteen sums, so that the loop has no chain of dependent additions.
template <class Term>
double sum_of(size_t count, Term term) {
  std::array<double, 16> lanes{};
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (size_t j = 0; j < 16; ++j) lanes[j] += term(i + j);
  }
  for (; i < count; ++i) lanes[0] += term(i);
  double total = 0;
  for (const double lane : lanes) total += lane;
  return total;
}

struct RowBounds {
  float scale, error, norm;
};

/// Rounds a row to q; all zero if nothing can be known of it.
RowBounds round_row(DType dtype, std::span<const float> row, std::span<int8_t> q) {
  const float largest = largest_magnitude(row);
  std::fill(q.begin(), q.end(), int8_t{0});
  if (!(largest <= kLargest) || (dtype == DType::kF16 && largest > 65504.0f))
    return {0, std::numeric_limits<float>::infinity(), 0};
  const double norm = std::sqrt(sum_of(row.size(), [&](size_t i) { return double{row[i]} * row[i]; }));
  // Below that, the inverse overflows; a row of such weights is its own rounding error.
  if (largest < 1e-30f) return {0, round_up_to_float(norm), round_up_to_float(2 * norm)};
  // |w * (127 / m)| <= 127 (1 + 2^-22): rounding stays in [-127, 127]. Adding 1.5 * 2^23 rounds half to even.
  const float scale = largest / 127.0f, inverse = 127.0f / largest;
  constexpr float kNoFraction = 12582912.0f;
  for (size_t i = 0; i < row.size(); ++i)
    q[i] = static_cast<int8_t>(static_cast<int>((row[i] * inverse + kNoFraction) - kNoFraction));
  const double error = std::sqrt(sum_of(row.size(), [&](size_t i) {
    const double difference = double{row[i]} - double{scale} * q[i];
    return difference * difference;
  }));
  return {scale, round_up_to_float(error), round_up_to_float(norm + error)};
}

}  // namespace

bool Int8Head::suits(const DenseMatrix& head) {
  const bool longer = head.dtype == DType::kF32 || head.dtype == DType::kF16 || head.dtype == DType::kBF16 ||
                      head.dtype == DType::kQ8_0;
  return longer && head.cols < (1 << 16);
}

Int8Head::Int8Head(const DenseMatrix& head, ThreadPool& pool, const DoneWith& done_with)
    : groups_((head.rows + kGroupRows - 1) / kGroupRows),
      padded_cols_((head.cols + 3) / 4 * 4),
      weights_(static_cast<size_t>(groups_ * kGroupRows * padded_cols_)) {
  const auto rows = static_cast<size_t>(groups_ * kGroupRows);
  scale_.resize(rows);
  error_.resize(rows);
  norm_.resize(rows);
  pool.for_range(groups_, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(head.cols));
    std::vector<int8_t> q(static_cast<size_t>(padded_cols_));
    // In steps, so that the caller can give pages back before all are read.
    constexpr int64_t kStep = 64;
    for (int64_t first = begin; first < end; first += kStep) {
      const int64_t last = std::min(first + kStep, end);
      for (int64_t group = first; group < last; ++group) convert_group(head, group, row, q);
      const int64_t read = (std::min(last * kGroupRows, head.rows) - first * kGroupRows) * head.row_bytes;
      done_with(head.bytes.subspan(static_cast<size_t>(first * kGroupRows * head.row_bytes),
                                   static_cast<size_t>(read)));
    }
  });
}

void Int8Head::convert_group(const DenseMatrix& head, int64_t group, std::vector<float>& row,
                             std::vector<int8_t>& q) {
  uint8_t* out = weights_.as<uint8_t>() + group * kGroupRows * padded_cols_;
  for (int64_t r = 0; r < kGroupRows; ++r) {
    const int64_t index = group * kGroupRows + r;
    if (index < head.rows) {
      decode_row(head, index, row);
      const RowBounds bounds = round_row(head.dtype, row, std::span(q).first(row.size()));
      const auto place = static_cast<size_t>(index);
      scale_[place] = bounds.scale, error_[place] = bounds.error, norm_[place] = bounds.norm;
    } else {
      std::fill(q.begin(), q.end(), int8_t{0});
    }
    for (int64_t k = 0; k < padded_cols_; k += 4) {
      uint32_t four;
      std::memcpy(&four, q.data() + k, sizeof four);
      four ^= 0x80808080u;  // + 128
      std::memcpy(out + k * kGroupRows + 4 * r, &four, sizeof four);
    }
  }
}

int64_t Int8Head::bytes() const {
  return static_cast<int64_t>(weights_.size() + 3 * scale_.size() * sizeof(float));
}

}  // namespace bitnet
