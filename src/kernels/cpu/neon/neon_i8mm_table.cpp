// ARMv8.6 int8 matrix multiplication beside the dot product instructions: all but products with many tokens
// is as in neon_dotprod_table.cpp, compiled again here because a unit shares no code with another.

#include "kernels/cpu/float_table.h"
#include "kernels/cpu/neon/dot_product.h"
#include "kernels/cpu/neon/f32x16.h"
#include "kernels/cpu/neon/matrix_panel.h"
#include "kernels/cpu/neon/scan.h"
#include "kernels/cpu/neon/sparse.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::neon_i8mm {
namespace {

using neon::F32x16;

// Counted, not measured: with 8 tokens, 16 columns of 16 rows take 128 sdot, or 64 smmla and about 56
// instructions of unpacking.
constexpr int64_t kLeastTokens = 9;

void ternary_matmul(const TernaryMatmulArgs& a) {
  if (a.tokens < kLeastTokens)
    neon::dot_matmul(a);
  else
    panel_matmul<neon::MatrixPanel>(a);
}

}  // namespace

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("neon_i8mm");
  table.ternary_matmul = ternary_matmul;
  neon::add_sparse_kernels<neon::DotProduct>(table);
  add_scan_kernels<F32x16, neon::Scan<neon::DotProducts>>(table);
  return table;
}();

}  // namespace bitnet::kernels::neon_i8mm
