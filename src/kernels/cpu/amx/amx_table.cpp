// AMX int8 beside AVX-512 VNNI: the float and the sparse kernels and the products with few tokens are those
// of avx512vnni_table.cpp, compiled again here because a unit shares no code with another.

#include "kernels/cpu/amx/tile_stream.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512vnni/f32x16.h"
#include "kernels/cpu/avx512vnni/scan.h"
#include "kernels/cpu/avx512vnni/sparse.h"
#include "kernels/cpu/avx512vnni/ternary_matmul.h"
#include "kernels/cpu/avx512vnni/tight.h"
#include "kernels/cpu/float_table.h"
#include "kernels/cpu/scan_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::amx {
namespace {

// Below, unpacking for the tiles costs more than they save (kernels_benchmark, ternary/*/tokens:*/amx).
constexpr int64_t kLeastTokens = 4;

void ternary_matmul(const TernaryMatmulArgs& a) {
  if (a.tokens < kLeastTokens)
    avx512vnni::ternary_matmul(a);
  else
    tile_matmul<AmxTiles, false>(a);
}

void ternary_tight(const TernaryMatmulArgs& a) {
  if (a.tokens < kLeastTokens)
    avx512vnni::ternary_tight(a);
  else
    tile_matmul<AmxTiles, true>(a);
}

}  // namespace

constinit const KernelTable kTable = [] {
  KernelTable table = float_table<avx512vnni::F32x16>("amx");
  table.ternary_matmul = ternary_matmul;
  table.ternary_tight = ternary_tight;
  table.tight_to_blocks = avx512vnni::tight_to_blocks;
  table.tight_tokens = INT64_MAX;
  table.batch_gain =
      5.0f;  // 3.8 to 6.7 (bitnet bench -p 128,512, with and without --no-sparse, 1 to 16 threads)
  avx512vnni::add_sparse_kernels(table);
  add_scan_kernels<avx512vnni::F32x16, avx512vnni::Scan>(table);
  return table;
}();

}  // namespace bitnet::kernels::amx
