// The only unit compiled for AVX-512 (F, BW, DQ, VL) with VNNI; functions of the second table use VBMI as
// well.

#include "kernels/cpu/avx512vnni/f32x16.h"
#include "kernels/cpu/avx512vnni/scan.h"
#include "kernels/cpu/avx512vnni/sparse.h"
#include "kernels/cpu/avx512vnni/ternary_matmul.h"
#include "kernels/cpu/avx512vnni/tight.h"
#include "kernels/cpu/float_table.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::avx512vnni {
namespace {

constexpr KernelTable vnni_table() {
  KernelTable table = float_table<F32x16>("avx512vnni");
  table.ternary_matmul = ternary_matmul;
  add_sparse_kernels(table);
  add_scan_kernels<F32x16, Scan>(table);
  return table;
}

}  // namespace

constinit const KernelTable kTable = vnni_table();

constinit const KernelTable kVbmiTable = [] {
  KernelTable table = vnni_table();
  table.name = "avx512vbmi";
  table.ternary_tight = ternary_tight;
  table.tight_to_blocks = tight_to_blocks;
  table.tight_tokens = 16;  // kernels_benchmark, ternary/t53x16/* and tight_to_blocks/*
  return table;
}();

}  // namespace bitnet::kernels::avx512vnni
