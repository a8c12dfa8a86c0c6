// The only unit compiled for AVX-512 (F, BW, DQ, VL) with VNNI.

#include "kernels/cpu/avx512vnni/f32x16.h"
#include "kernels/cpu/avx512vnni/sparse.h"
#include "kernels/cpu/avx512vnni/ternary_matmul.h"
#include "kernels/cpu/float_table.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::avx512vnni {

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("avx512vnni");
  table.ternary_matmul = ternary_matmul;
  add_sparse_kernels(table);
  return table;
}();

}  // namespace bitnet::kernels::avx512vnni
