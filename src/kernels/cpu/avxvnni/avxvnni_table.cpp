// 256-bit AVX-VNNI: the float and the sparse kernels are those of avx2_table.cpp, compiled again here because
// a unit shares no code with another.

#include "kernels/cpu/avx2/f32x16.h"
#include "kernels/cpu/avx2/scan.h"
#include "kernels/cpu/avx2/sparse.h"
#include "kernels/cpu/avxvnni/ternary_matmul.h"
#include "kernels/cpu/float_table.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::avxvnni {
namespace {

struct Vpdpbusd {
  static __m256i dot(__m256i sum, __m256i codes, __m256i activations) {
    return _mm256_dpbusd_avx_epi32(sum, codes, activations);
  }
};

}  // namespace

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<avx2::F32x16>("avx_vnni");
  table.ternary_matmul = ternary_matmul<Vpdpbusd>;
  avx2::add_sparse_kernels(table);
  add_scan_kernels<avx2::F32x16, avx2::Scan>(table);
  return table;
}();

}  // namespace bitnet::kernels::avxvnni
