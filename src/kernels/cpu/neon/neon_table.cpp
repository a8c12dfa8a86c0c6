// Baseline ARMv8.0 with NEON.

#include "kernels/cpu/float_table.h"
#include "kernels/cpu/neon/f32x16.h"
#include "kernels/cpu/neon/scan.h"
#include "kernels/cpu/neon/sparse.h"
#include "kernels/cpu/neon/ternary_matmul.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::neon {

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("neon");
  table.ternary_matmul = ternary_matmul<Widening>;
  add_sparse_kernels<Widening>(table);
  add_scan_kernels<F32x16, Scan<WideningProducts>>(table);
  return table;
}();

}  // namespace bitnet::kernels::neon
