// The only unit compiled for AVX2 with FMA and F16C.

#include "kernels/cpu/avx2/f32x16.h"
#include "kernels/cpu/avx2/scan.h"
#include "kernels/cpu/avx2/sparse.h"
#include "kernels/cpu/avx2/ternary_matmul.h"
#include "kernels/cpu/float_table.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::avx2 {

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("avx2");
  table.ternary_matmul = ternary_matmul;
  add_sparse_kernels(table);
  add_scan_kernels<F32x16, Scan>(table);
  return table;
}();

}  // namespace bitnet::kernels::avx2
