#pragma once

// Products with t53x16 matrices (quant/packed_ternary.h). VPERMB looks 64 bytes up by six bits of each: codes
// come out of indices in one step, without shifts and masks, and what lies above the bits is no matter.

#include "kernels/cpu/avx512vnni/ternary_matmul.h"
#include "kernels/cpu/tight_units.h"

#include <cstdint>

#include <immintrin.h>

// What the unit may not use elsewhere: avx512vnni runs on processors without it.
#define BITNET_VBMI __attribute__((target("avx512vbmi")))
#define BITNET_VBMI_INLINE __attribute__((target("avx512vbmi"), always_inline))

namespace bitnet::kernels::avx512vnni {
namespace {

// Code k of an index << 2 field, for every value of its lower six bits, of which the sixth is ignored.
struct TightCodes {
  alignas(64) uint8_t of_index[4][3][64];
  constexpr TightCodes() : of_index{} {
    for (int field = 0; field < 4; ++field) {
      for (int i = 0; i < 64; ++i) {
        const int index = i % 32, codes[3] = {index % 3, index / 3 % 3, index / 9};
        for (int k = 0; k < 3; ++k) of_index[field][k][i] = static_cast<uint8_t>(codes[k] << (2 * field));
      }
    }
  }
};
constexpr TightCodes kTightCodes;

BITNET_VBMI_INLINE inline __m512i tight_code(__m512i index, int k, int field = 0) {
  return _mm512_permutexvar_epi8(index, _mm512_load_si512(kTightCodes.of_index[field][k]));
}

// Bits of `yes` where the mask has them, else of `no`.
inline __m512i choose(int mask, __m512i yes, __m512i no) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(mask)), yes, no, 0xca);
}

// The eight indices of a unit, in the lower five bits of each byte; what lies above them is anything.
inline void tight_indices(const uint8_t* unit, __m512i (&index)[8]) {
  BITNET_UNROLL for (int v = 0; v < 5; ++v) {
    index[v] = _mm512_loadu_si512(unit + 64 * v);
    // The empty asm keeps GCC from loading it anew for each use: loads bound products of one token.
    __asm__("" : "+v"(index[v]));
  }
  index[5] = choose(0x1c, _mm512_srli_epi16(index[0], 3), _mm512_srli_epi16(index[1], 6));
  index[6] = choose(0x1c, _mm512_srli_epi16(index[2], 3), _mm512_srli_epi16(index[3], 6));
  index[7] = choose(0x07, _mm512_srli_epi16(index[4], 5),
                    choose(0x08, _mm512_srli_epi16(index[1], 2), _mm512_srli_epi16(index[3], 1)));
}

// Products of 3 columns x 4 of a unit, those of its indices i.
template <int kTokens, int kVectors, int kSets>
BITNET_VBMI_INLINE inline void add_index(const __m512i (&index)[kVectors][8], int i, const int8_t* q,
                                         int64_t q_stride, __m512i (&sum)[kTokens][kVectors][kSets]) {
  BITNET_UNROLL for (int k = 0; k < 3; ++k) {
    __m512i codes[kVectors];
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) codes[v] = tight_code(index[v][i], k);
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
      const __m512i activations = Int32x16::broadcast4(q + t * q_stride + 12 * i + 4 * k);
      BITNET_UNROLL for (int v = 0; v < kVectors; ++v)
          Int32x16::dot(sum[t][v][(kSets > 3 ? 3 * i + k : k) % kSets], codes[v], activations);
    }
  }
}

// As unpacked_tile(), with more accumulators where registers are left, because products have to wait for
// nothing else. |accumulator| <= 2 * 128 * cols < 2^31 for cols < 2^23.
template <int kTokens, int kVectors>
BITNET_VBMI void tight_tile(const TernaryMatmulArgs& a, int64_t token, int64_t group) {
  constexpr int kProducts = kTokens * kVectors;
  constexpr int kSets = kProducts <= 2 ? 6 : kProducts <= 4 ? 3 : 2 * kProducts <= 24 ? 2 : 1;
  const int64_t units = tight_units(a), stride = tight_group_bytes(a);
  const int64_t ahead = kVectors == 1 ? 8192 : kVectors * stride;  // prefetch_distance() says why
  const uint8_t* w = a.weights + group * stride;
  const int8_t* q = a.q + token * a.q_stride;
  __m512i sum[kTokens][kVectors][kSets];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      BITNET_UNROLL for (int s = 0; s < kSets; ++s) sum[t][v][s] = Int32x16::zero();
    }
  }
  for (int64_t unit = 0; unit < units; ++unit, w += kTightUnitBytes, q += kTightUnitCols) {
    __m512i index[kVectors][8];
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      tight_indices(w + v * stride, index[v]);
      BITNET_UNROLL for (int line = 0; line < 5; ++line)
          __builtin_prefetch(w + v * stride + 64 * line + ahead);  // a hint: never a fault
    }
    if constexpr (kProducts <= 4) {
      BITNET_UNROLL for (int i = 0; i < 8; ++i) add_index(index, i, q, a.q_stride, sum);
    } else {
      for (int i = 0; i < 8; ++i) add_index(index, i, q, a.q_stride, sum);
    }
  }
  for (int64_t col = units * kTightUnitCols; col < a.padded_cols; col += 16, w += 64, q += 16) {
    BITNET_UNROLL for (int s = 0; s < 4; ++s) {
      BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
        const __m512i codes = Int32x16::code(Int32x16::load(w + v * stride), s);
        BITNET_UNROLL for (int t = 0; t < kTokens; ++t)
            Int32x16::dot(sum[t][v][s % kSets], codes, Int32x16::broadcast4(q + t * a.q_stride + 4 * s));
      }
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int v = 0; v < kVectors; ++v) {
      BITNET_UNROLL for (int s = 1; s < kSets; ++s) sum[t][v][0] = Int32x16::add(sum[t][v][0], sum[t][v][s]);
      Int32x16::store_rows(a, token + t, (group + v) * Int32x16::kRows, sum[t][v][0]);
    }
  }
}

struct TightTiles {
  using Vector = Int32x16;
  template <int kTokens, int kVectors>
  static void tile(const TernaryMatmulArgs& a, int64_t token, int64_t group) {
    tight_tile<kTokens, kVectors>(a, token, group);
  }
};

// The unit as six blocks of t2x16.
BITNET_VBMI_INLINE inline void store_blocks(const uint8_t* unit, uint8_t* blocks) {
  __m512i index[8];
  tight_indices(unit, index);
  BITNET_UNROLL for (int b = 0; b < 6; ++b) {
    __m512i codes[4];
    BITNET_UNROLL for (int s = 0; s < 4; ++s) codes[s] =
        tight_code(index[(4 * b + s) / 3], (4 * b + s) % 3, s);
    const __m512i most = _mm512_ternarylogic_epi32(codes[0], codes[1], codes[2], 0xfe);
    _mm512_storeu_si512(blocks + 64 * b, _mm512_or_si512(most, codes[3]));
  }
}

BITNET_VBMI inline void tight_to_blocks(const TranscodeArgs& a) {
  const int64_t units = a.padded_cols / kTightUnitCols, rest = 4 * (a.padded_cols % kTightUnitCols);
  for (int64_t group = a.first; group < a.last; ++group) {
    const uint8_t* w = a.weights + group * a.stride;
    uint8_t* blocks = a.blocks + group * 4 * a.padded_cols;
    for (int64_t unit = 0; unit < units; ++unit, w += kTightUnitBytes, blocks += 4 * kTightUnitCols)
      store_blocks(w, blocks);
    __builtin_memcpy(blocks, w, static_cast<size_t>(rest));
  }
}

inline void ternary_tight(const TernaryMatmulArgs& a) {
  multiply<TightTiles>(a);
}

}  // namespace
}  // namespace bitnet::kernels::avx512vnni
