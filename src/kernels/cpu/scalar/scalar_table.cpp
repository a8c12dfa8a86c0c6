// The reference: baseline instructions only, loops that follow kernel_table.h word for word.

#include "kernels/cpu/float_table.h"
#include "kernels/cpu/scalar/attention.h"
#include "kernels/cpu/scalar/f32x16.h"
#include "kernels/cpu/scalar/scan.h"
#include "kernels/cpu/scalar/sparse.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::scalar {
namespace {

constexpr int64_t kGroupRows = 16, kBlockCols = 16, kBlockBytes = 64;

// sum_k code[row, k] * q[k] over the blocks of one group, code = trit + 1.
int32_t dot_codes(const uint8_t* group, int64_t row_in_group, int64_t padded_cols, const int8_t* q) {
  int32_t total = 0;
  for (int64_t block = 0; block < padded_cols / kBlockCols; ++block) {
    const uint8_t* bytes = group + block * kBlockBytes + 4 * row_in_group;
    const int8_t* x = q + block * kBlockCols;
    for (int s = 0; s < 4; ++s) {
      for (int j = 0; j < 4; ++j) total += ((bytes[j] >> (2 * s)) & 3) * x[4 * s + j];
    }
  }
  return total;
}

void ternary_matmul(const TernaryMatmulArgs& a) {
  const int64_t group_bytes = a.padded_cols / kBlockCols * kBlockBytes;
  const int64_t first_row = a.first_group * kGroupRows;
  const int64_t last_row = a.last_group * kGroupRows < a.rows ? a.last_group * kGroupRows : a.rows;
  for (int64_t row = first_row; row < last_row; ++row) {
    const uint8_t* group = a.weights + row / kGroupRows * group_bytes;
    for (int64_t t = 0; t < a.tokens; ++t) {
      const int32_t dot = dot_codes(group, row % kGroupRows, a.padded_cols, a.q + t * a.q_stride) - a.sum[t];
      a.y[t * a.y_stride + row] = static_cast<float>(dot) * (a.row_scale[row] / a.scale[t]);
    }
  }
}

}  // namespace

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("scalar");
  table.ternary_matmul = ternary_matmul;
  add_sparse_kernels(table);
  table.attention_chunk = attention_chunk;
  table.attention_merge = attention_merge;
  add_scan_kernels<F32x16, Scan>(table);
  return table;
}();

}  // namespace bitnet::kernels::scalar
