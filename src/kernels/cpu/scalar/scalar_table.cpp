// The reference: baseline instructions only, loops that follow kernel_table.h word for word.

#include "kernels/cpu/float_table.h"
#include "kernels/cpu/scalar/attention.h"
#include "kernels/cpu/scalar/f32x16.h"
#include "kernels/cpu/scalar/scan.h"
#include "kernels/cpu/scalar/sparse.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"
#include "kernels/cpu/tight_units.h"

namespace bitnet::kernels::scalar {
namespace {

constexpr int64_t kGroupRows = 16;

// code = trit + 1 of a row of a group of t2x16.
int block_code(const uint8_t* group, int64_t row, int64_t col) {
  return code_at(group + 4 * row, in_row(col, 64));
}

// The same of t53x16: three codes in an index below 27, indices in bits of five bytes.
int tight_code(const uint8_t* group, int64_t row, int64_t col, int64_t units) {
  const int64_t unit_cols = units * kTightUnitCols;
  if (col >= unit_cols) return block_code(group + units * kTightUnitBytes, row, col - unit_cols);
  const uint8_t* bytes = group + col / kTightUnitCols * kTightUnitBytes + 4 * row + col % 4;
  const auto bits = [&](int line, int first, int count) {
    return bytes[64 * line] >> first & ((1 << count) - 1);
  };
  const int64_t in_unit = col % kTightUnitCols;
  const auto number = static_cast<int>(in_unit / 12);
  int index = 0;
  if (number < 5) index = bits(number, 0, 5);
  if (number == 5) index = bits(0, 5, 3) << 2 | bits(1, 6, 2);
  if (number == 6) index = bits(2, 5, 3) << 2 | bits(3, 6, 2);
  if (number == 7) index = bits(3, 5, 1) << 4 | bits(1, 5, 1) << 3 | bits(4, 5, 3);
  for (int64_t k = in_unit % 12 / 4; k > 0; --k) index /= 3;
  return index % 3;
}

// code(group, row in it, col) of groups `group_bytes` apart.
template <class Code>
void multiply(const TernaryMatmulArgs& a, int64_t group_bytes, Code code) {
  const int64_t end = a.last_group * kGroupRows, last_row = end < a.rows ? end : a.rows;
  for (int64_t row = a.first_group * kGroupRows; row < last_row; ++row) {
    const uint8_t* group = a.weights + row / kGroupRows * group_bytes;
    for (int64_t t = 0; t < a.tokens; ++t) {
      int32_t dot = -a.sum[t];
      for (int64_t col = 0; col < a.padded_cols; ++col)
        dot += code(group, row % kGroupRows, col) * a.q[t * a.q_stride + col];
      a.y[t * a.y_stride + row] = static_cast<float>(dot) * (a.row_scale[row] / a.scale[t]);
    }
  }
}

void ternary_matmul(const TernaryMatmulArgs& a) {
  multiply(a, 4 * a.padded_cols, block_code);
}

void ternary_tight(const TernaryMatmulArgs& a) {
  multiply(a, tight_group_bytes(a), [units = tight_units(a)](const uint8_t* group, int64_t row, int64_t col) {
    return tight_code(group, row, col, units);
  });
}

void tight_to_blocks(const TranscodeArgs& a) {
  for (int64_t row = kGroupRows * a.first; row < kGroupRows * a.last; ++row) {
    const int64_t group = row / kGroupRows;
    for (int64_t col = 0; col < a.padded_cols; ++col) {
      store_code(
          a.blocks + group * 4 * a.padded_cols, row % kGroupRows, col,
          tight_code(a.weights + group * a.stride, row % kGroupRows, col, a.padded_cols / kTightUnitCols));
    }
  }
}

}  // namespace

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("scalar");
  table.ternary_matmul = ternary_matmul;
  table.ternary_tight = ternary_tight;
  table.tight_to_blocks = tight_to_blocks;
  table.tight_tokens = INT64_MAX;
  add_sparse_kernels(table);
  table.attention_chunk = attention_chunk;
  table.attention_merge = attention_merge;
  add_scan_kernels<F32x16, Scan>(table);
  return table;
}();

}  // namespace bitnet::kernels::scalar
