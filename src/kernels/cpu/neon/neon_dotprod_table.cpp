// ARMv8.2 with the dot product instructions: the float kernels are those of neon_table.cpp, compiled again
// here because a unit shares no code with another.

#include "kernels/cpu/float_table.h"
#include "kernels/cpu/neon/f32x16.h"
#include "kernels/cpu/neon/scan.h"
#include "kernels/cpu/neon/sparse.h"
#include "kernels/cpu/neon/ternary_matmul.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::neon_dotprod {
namespace {

using neon::F32x16;

// sdot: four products a lane straight into int32, one lane a row. |sum| <= 2 * 128 * cols < 2^31.
struct DotProduct {
  static constexpr int64_t kBlocksPerWidening = int64_t{1} << 62;  // int32 never needs widening

  int32x4_t total = vdupq_n_s32(0);

  void add(int8x16_t codes, int8x16_t activations) { total = vdotq_s32(total, codes, activations); }
  void widen() {}
  [[nodiscard]] int32x4_t rows() const { return total; }
};

struct DotProducts {
  static int32x4_t add(int32x4_t sum, int8x16_t a, int8x16_t b) { return vdotq_s32(sum, a, b); }
};

}  // namespace

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<F32x16>("neon_dotprod");
  table.ternary_matmul = neon::ternary_matmul<DotProduct>;
  neon::add_sparse_kernels<DotProduct>(table);
  add_scan_kernels<F32x16, neon::Scan<DotProducts>>(table);
  return table;
}();

}  // namespace bitnet::kernels::neon_dotprod
