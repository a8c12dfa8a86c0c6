#pragma once

// The tile instructions of AMX. Written as assembly because the compilers' macros want literal tile numbers,
// and GCC's do not tell the optimizer that they read memory.

#include "kernels/cpu/amx/tile_panel.h"
#include "kernels/cpu/avx512vnni/ternary_matmul.h"
#include "kernels/cpu/avx512vnni/tight.h"
#include "kernels/kernel_table.h"

#include <cstdint>

#include <immintrin.h>

namespace bitnet::kernels::amx {
namespace {

struct AmxTiles {
  // The layout of LDTILECFG's operand (Intel 64 and IA-32 Architectures Software Developer's Manual, volume
  // 2).
  struct Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static_assert(sizeof(Config) == 64);

  static void configure(int64_t n0, int64_t n1) {
    alignas(64) Config config;
    for (int i = 0; i < 2; ++i) {
      const auto tokens = static_cast<uint8_t>(i == 0 ? n0 : n1);
      config.rows[tokens_tile(i)] = config.rows[sums_tile(i, 0)] = config.rows[sums_tile(i, 1)] = tokens;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
  }
  static void release() { __asm__ volatile("tilerelease"); }

  template <int C>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(C));
  }
  template <int T>
  static void load(const void* p, int64_t stride) {
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(T), "r"(p), "r"(stride) : "memory");
  }
  template <int C>
  static void store(void* p, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(C), "r"(p), "r"(stride) : "memory");
  }
  // C[m][n] += sum_k signed A[m][k] * unsigned B[k / 4][n][k % 4].
  template <int C, int A, int B>
  static void multiply() {
    __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }

  static void unpack(const uint8_t* block, uint8_t* codes) {
    const __m512i packed = _mm512_loadu_si512(block), three = _mm512_set1_epi8(3);
    BITNET_UNROLL for (int s = 0; s < 4; ++s)
        _mm512_store_si512(codes + 64 * s, _mm512_and_si512(_mm512_srli_epi16(packed, 2 * s), three));
  }
  BITNET_VBMI static void unpack_unit(const uint8_t* unit, uint8_t* codes) {
    __m512i index[8];
    avx512vnni::tight_indices(unit, index);
    BITNET_UNROLL for (int i = 0; i < 8; ++i) {
      BITNET_UNROLL for (int k = 0; k < 3; ++k)
          _mm512_store_si512(codes + 64 * (3 * i + k), avx512vnni::tight_code(index[i], k));
    }
  }
  static void store_rows(const TernaryMatmulArgs& a, int64_t token, int64_t group, const int32_t* sums) {
    avx512vnni::Int32x16::store_rows(a, token, 16 * group, _mm512_loadu_si512(sums));
  }
};

}  // namespace
}  // namespace bitnet::kernels::amx
