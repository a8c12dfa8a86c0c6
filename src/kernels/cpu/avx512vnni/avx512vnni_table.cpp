// The only unit compiled for AVX-512 (F, BW, DQ, VL) with VNNI.

#include "kernels/cpu/avx512vnni/f32x16.h"
#include "kernels/cpu/avx512vnni/scan.h"
#include "kernels/cpu/avx512vnni/sparse.h"
#include "kernels/cpu/avx512vnni/ternary_matmul.h"
#include "kernels/cpu/float_table.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::avx512vnni {

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("avx512vnni");
  table.ternary_matmul = ternary_matmul;
  add_sparse_kernels(table);
  add_scan_kernels<F32x16, Scan>(table);
  return table;
}();

}  // namespace bitnet::kernels::avx512vnni
