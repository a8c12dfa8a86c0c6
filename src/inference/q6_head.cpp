#include "inference/q6_head.h"

#include <algorithm>
#include <cstring>

namespace bitnet {
namespace {

// A block of 256 columns of a row in the file: quant/block_formats.h.
constexpr int64_t kBlockCols = 256, kRowBlockBytes = 210, kHighBits = 128, kScales = 192, kStep = 208;
// And of a group of rows: 16 units of 16 columns, then scales.
constexpr int64_t kUnits = 16, kUnitCols = 16, kUnitBytes = 192, kGroupBlockBytes = 3328;
constexpr int64_t kStepBytes = 2 * Q6Head::kGroupRows;

/// The codes of a block, in order of the columns.
void unpack(const std::byte* block, uint8_t (&codes)[kBlockCols]) {
  uint8_t bytes[kScales];
  std::memcpy(bytes, block, sizeof bytes);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = bytes + 64 * half;
    const uint8_t* high = bytes + kHighBits + 32 * half;
    uint8_t* out = codes + 128 * half;
    for (int i = 0; i < 32; ++i) {
      out[i] = static_cast<uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
      out[i + 32] = static_cast<uint8_t>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      out[i + 64] = static_cast<uint8_t>(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
      out[i + 96] = static_cast<uint8_t>(low[i + 32] >> 4 | high[i] >> 6 << 4);
    }
  }
}

/// The 16 columns of a unit of one row, four at a time.
void store_unit(const uint8_t* codes, int64_t row, uint8_t* unit) {
  uint32_t four[4];
  std::memcpy(four, codes, sizeof four);
  for (int64_t u = 0; u < 3; ++u) {
    const uint32_t joined = four[u] | (four[3] >> (2 * u) & 0x03030303u) << 6;
    std::memcpy(unit + 64 * u + 4 * row, &joined, sizeof joined);
  }
}

void store_row(std::span<const std::byte> bytes, int64_t row, uint8_t* group) {
  const int64_t blocks = std::ssize(bytes) / kRowBlockBytes;
  for (int64_t b = 0; b < blocks; ++b) {
    const std::byte* block = bytes.data() + b * kRowBlockBytes;
    uint8_t* out = group + b * kGroupBlockBytes;
    uint8_t codes[kBlockCols];
    unpack(block, codes);
    for (int64_t j = 0; j < kUnits; ++j) {
      store_unit(codes + j * kUnitCols, row, out + j * kUnitBytes);
      out[kUnits * kUnitBytes + j * Q6Head::kGroupRows + row] = static_cast<uint8_t>(block[kScales + j]);
    }
    std::memcpy(group + blocks * kGroupBlockBytes + b * kStepBytes + 2 * row, block + kStep, 2);
  }
}

}  // namespace

bool Q6Head::suits(const DenseMatrix& head) {
  return head.dtype == DType::kQ6_K && head.cols < (1 << 16);
}

Q6Head::Q6Head(const DenseMatrix& head, ThreadPool& pool, const DoneWith& done_with)
    : groups_((head.rows + kGroupRows - 1) / kGroupRows),
      group_bytes_((head.cols / kBlockCols * (kGroupBlockBytes + kStepBytes) + 63) / 64 * 64),
      weights_(static_cast<size_t>(groups_ * group_bytes_)) {
  pool.for_range(groups_, 1, [&](int64_t begin, int64_t end) {
    // In steps, so that the caller can give pages back before all are read.
    constexpr int64_t kStepGroups = 64;
    for (int64_t first = begin; first < end; first += kStepGroups) {
      const int64_t last = std::min(first + kStepGroups, end);
      const int64_t last_row = std::min(last * kGroupRows, head.rows);
      for (int64_t row = first * kGroupRows; row < last_row; ++row)
        store_row(head.row(row), row % kGroupRows, weights_.as<uint8_t>() + row / kGroupRows * group_bytes_);
      done_with(head.bytes.subspan(static_cast<size_t>(first * kGroupRows * head.row_bytes),
                                   static_cast<size_t>((last_row - first * kGroupRows) * head.row_bytes)));
    }
  });
}

}  // namespace bitnet
