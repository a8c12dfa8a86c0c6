// Function by function for another instruction set, so that the unit itself is baseline code.
#if defined(__x86_64__)

#include "kernels/cpu/unroll.h"
#include "kernels/measure/int8_peak.h"

#include <immintrin.h>

namespace bitnet::kernels {
namespace {

// Enough independent sums for latency times throughput: 5 cycles, 2 a cycle.
constexpr int kSums = 12;

// Below, an empty asm makes the compiler take a register for new: it would compute the sum at once otherwise.

__attribute__((target("avx2"))) int64_t run_avx2(int64_t rounds) {
  // vpmaddubsw alone has no sum: the addition belongs to it. int16 lanes: 2 a round, 2 * 8192 < 2^15.
  constexpr int64_t kRoundsOfInt16 = 8192;
  const __m256i ones = _mm256_set1_epi8(1), ones16 = _mm256_set1_epi16(1);
  __m256i total = _mm256_setzero_si256();
  for (int64_t done = 0; done < rounds; done += kRoundsOfInt16) {
    const int64_t now = rounds - done < kRoundsOfInt16 ? rounds - done : kRoundsOfInt16;
    __m256i sums[kSums];
    BITNET_UNROLL for (__m256i& sum : sums) sum = _mm256_setzero_si256();
    for (int64_t round = 0; round < now; ++round) {
      BITNET_UNROLL for (__m256i& sum : sums) {
        __m256i a = ones;
        __asm__ volatile("" : "+x"(a));
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, ones));
      }
    }
    BITNET_UNROLL for (const __m256i& sum : sums) total =
        _mm256_add_epi32(total, _mm256_madd_epi16(sum, ones16));
  }
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), total);
  int64_t result = 0;
  for (const int32_t lane : lanes) result += lane;
  return result;
}

__attribute__((target("avx2,avxvnni"))) int64_t run_avx_vnni(int64_t rounds) {
  const __m256i ones = _mm256_set1_epi8(1);
  __m256i sums[kSums];
  BITNET_UNROLL for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t round = 0; round < rounds; ++round) {
    BITNET_UNROLL for (__m256i& sum : sums) {
      sum = _mm256_dpbusd_avx_epi32(sum, ones, ones);
      __asm__ volatile("" : "+x"(sum));
    }
  }
  int64_t result = 0;
  BITNET_UNROLL for (const __m256i& sum : sums) {
    alignas(32) int32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
    for (const int32_t lane : lanes) result += lane;
  }
  return result;
}

__attribute__((target("avx512f,avx512vnni"))) int64_t run_avx512_vnni(int64_t rounds) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sums[kSums];
  BITNET_UNROLL for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t round = 0; round < rounds; ++round) {
    BITNET_UNROLL for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, ones, ones);
      __asm__ volatile("" : "+v"(sum));
    }
  }
  int64_t result = 0;
  BITNET_UNROLL for (const __m512i& sum : sums) {
    alignas(64) int32_t lanes[16];
    _mm512_store_si512(lanes, sum);
    for (const int32_t lane : lanes) result += lane;
  }
  return result;
}

// The layout that LDTILECFG reads: Intel SDM volume 1, chapter 18.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0..3 sum the products of tiles 4, 5 with tiles 6, 7: two loads feed four products in a real kernel.
__attribute__((target("amx-tile,amx-int8"))) int64_t run_amx(int64_t rounds) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = 16;
  }
  alignas(64) int8_t ones[16 * 64];
  for (int8_t& one : ones) one = 1;
  // GCC's intrinsics do not say which memory they read: have all of it written.
  __asm__ volatile("" : : "r"(&config), "r"(ones) : "memory");
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  _tile_loadd(6, ones, 64);
  _tile_loadd(7, ones, 64);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  alignas(64) int32_t sums[4][16 * 16];
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
  _tile_stored(2, sums[2], 64);
  _tile_stored(3, sums[3], 64);
  _tile_release();
  int64_t result = 0;
  for (const auto& tile : sums) {
    for (const int32_t lane : tile) result += lane;
  }
  return result;
}

constexpr int64_t kLaneLimit = int64_t{1} << 31;
constexpr Int8Peak kAvx2 = {"vpmaddubsw + vpaddw ymm", kSums * 32, kLaneLimit / (2 * 2 * kSums) - 1,
                            &run_avx2};
constexpr Int8Peak kAvxVnni = {"vpdpbusd ymm", kSums * 32, kLaneLimit / 4 - 1, &run_avx_vnni};
constexpr Int8Peak kAvx512Vnni = {"vpdpbusd zmm", kSums * 64, kLaneLimit / 4 - 1, &run_avx512_vnni};
constexpr Int8Peak kAmx = {"tdpbusd", 4 * 16 * 16 * 64, kLaneLimit / 64 - 1, &run_amx};

}  // namespace

const Int8Peak* architecture_peak(std::string_view isa) {
  if (isa.find("amx") != std::string_view::npos) return &kAmx;
  if (isa.starts_with("avx512")) return &kAvx512Vnni;
  if (isa.starts_with("avx") && isa.ends_with("vnni")) return &kAvxVnni;
  if (isa == "avx2") return &kAvx2;
  return nullptr;
}

}  // namespace bitnet::kernels

#endif
