// ARMv8.2 with the dot product instructions: the float kernels are those of neon_table.cpp, compiled again
// here because a unit shares no code with another.

#include "kernels/cpu/float_table.h"
#include "kernels/cpu/neon/dot_product.h"
#include "kernels/cpu/neon/f32x16.h"
#include "kernels/cpu/neon/scan.h"
#include "kernels/cpu/neon/sparse.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::neon_dotprod {

using neon::F32x16;

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("neon_dotprod");
  table.ternary_matmul = neon::dot_matmul;
  neon::add_sparse_kernels<neon::DotProduct>(table);
  add_scan_kernels<F32x16, neon::Scan<neon::DotProducts>>(table);
  return table;
}();

}  // namespace bitnet::kernels::neon_dotprod
