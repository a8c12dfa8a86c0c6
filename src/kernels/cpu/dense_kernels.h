#pragma once

// y = x W^T for dense weights, dequantized on the fly. See float_kernels.h for V.
//
// A format is a struct that unpacks kChunks * 16 consecutive weights of one row at a time and then gives them
// 16 by
// 16. Unpacking is integer work (exact in any order), left to the compiler to vectorize; each weight's
// product d * scale * q fits 24 bits, so it too is exact (quant/block_formats.h).

#include "kernels/cpu/float_kernels.h"

namespace bitnet::kernels {

template <class V>
struct F32Weights {
  static constexpr int kChunks = 1;
  static constexpr int64_t kUnitBytes = 4 * kLanes;
  static constexpr int64_t kElementBytes = 4;
  const uint8_t* p;
  void unpack(const uint8_t* unit) { p = unit; }
  V chunk(int) const { return V::load(reinterpret_cast<const float*>(p)); }
};

template <class V>
struct F16Weights {
  static constexpr int kChunks = 1;
  static constexpr int64_t kUnitBytes = 2 * kLanes;
  static constexpr int64_t kElementBytes = 2;
  const uint8_t* p;
  void unpack(const uint8_t* unit) { p = unit; }
  V chunk(int) const { return V::load_f16(reinterpret_cast<const uint16_t*>(p)); }
};

template <class V>
struct BF16Weights {
  static constexpr int kChunks = 1;
  static constexpr int64_t kUnitBytes = 2 * kLanes;
  static constexpr int64_t kElementBytes = 2;
  const uint8_t* p;
  void unpack(const uint8_t* unit) { p = unit; }
  V chunk(int) const { return V::load_bf16(reinterpret_cast<const uint16_t*>(p)); }
};

template <class V>
float load_scale(const uint8_t* p) {
  return V::f16_to_f32(static_cast<uint16_t>(p[0] | (p[1] << 8)));
}

template <class V>
struct Q8_0Weights {
  static constexpr int kChunks = 2;
  static constexpr int64_t kUnitBytes = 34;
  static constexpr int64_t kElementBytes = 0;  // no tails: rows are whole blocks
  V d;
  const int8_t* q;
  void unpack(const uint8_t* unit) {
    d = V::broadcast(load_scale<V>(unit));
    q = reinterpret_cast<const int8_t*>(unit + 2);
  }
  V chunk(int c) const { return V::mul(d, V::from_i8(q + 16 * c)); }
};

using Bytes16 = uint8_t __attribute__((vector_size(16)));

template <class V>
struct Q4_0Weights {
  static constexpr int kChunks = 2;
  static constexpr int64_t kUnitBytes = 18;
  static constexpr int64_t kElementBytes = 0;
  V d;
  alignas(32) int8_t q[32];
  void unpack(const uint8_t* unit) {
    d = V::broadcast(load_scale<V>(unit));
    unpack_nibbles(unit + 2, q);
  }
  // Vector extensions, because compilers unroll a loop of 16 bytes instead of vectorizing it
  // (kernels_benchmark, dense/q4_0).
  static void unpack_nibbles(const uint8_t* nibbles, int8_t* out) {
    Bytes16 packed;
    __builtin_memcpy(&packed, nibbles, sizeof packed);
    const Bytes16 low = (packed & 15) - 8, high = (packed >> 4) - 8;
    __builtin_memcpy(out, &low, sizeof low);
    __builtin_memcpy(out + 16, &high, sizeof high);
  }
  V chunk(int c) const { return V::mul(d, V::from_i8(q + 16 * c)); }
};

template <class V>
struct Q6_KWeights {
  static constexpr int kChunks = 16;
  static constexpr int64_t kUnitBytes = 210;
  static constexpr int64_t kElementBytes = 0;
  alignas(64) int8_t q[256];
  alignas(64) float scale[16];
  void unpack(const uint8_t* unit) {
    const uint8_t* high = unit + 128;
    const V d = V::broadcast(load_scale<V>(unit + 208));
    V::mul(d, V::from_i8(reinterpret_cast<const int8_t*>(unit + 192))).store(scale);
    for (int half = 0; half < 2; ++half) unpack_half(unit + 64 * half, high + 32 * half, q + 128 * half);
  }
  static void unpack_half(const uint8_t* __restrict low, const uint8_t* __restrict high,
                          int8_t* __restrict out) {
    for (int i = 0; i < 32; ++i) {
      out[i] = static_cast<int8_t>(((low[i] & 15) | ((high[i] << 4) & 48)) - 32);
      out[32 + i] = static_cast<int8_t>(((low[32 + i] & 15) | ((high[i] << 2) & 48)) - 32);
      out[64 + i] = static_cast<int8_t>(((low[i] >> 4) | (high[i] & 48)) - 32);
      out[96 + i] = static_cast<int8_t>(((low[32 + i] >> 4) | ((high[i] >> 2) & 48)) - 32);
    }
  }
  V chunk(int c) const { return V::mul(V::broadcast(scale[c]), V::from_i8(q + 16 * c)); }
};

// The rows of the next tile. They start new streams, which a hardware prefetcher learns too late for rows of
// a few KiB: kernels_benchmark, dense/q8_0/*/tokens:1. Beyond the last row it does nothing.
template <int64_t kBytes>
inline __attribute__((always_inline)) void prefetch(const uint8_t* p) {
  for (int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(p + i);
}

// kRows x kTokens outputs, one accumulator each: a decoded weight serves all tokens of the tile.
template <class V, class Format, int kRows, int kTokens>
void dense_tile(const DenseMatmulArgs& a, int64_t row, int64_t token) {
  constexpr int64_t kUnit = Format::kChunks * kLanes;
  const uint8_t* w = a.weights + row * a.row_bytes;
  const float* x = a.x + token * a.x_stride;
  V sum[kTokens][kRows];
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int r = 0; r < kRows; ++r) sum[t][r] = V::zero();
  }
  const auto accumulate = [&](const V(&weight)[kRows], int64_t i) __attribute__((always_inline)) {
    BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
      const V activation = V::load(x + t * a.x_stride + i);
      BITNET_UNROLL for (int r = 0; r < kRows; ++r) sum[t][r] = V::fma(activation, weight[r], sum[t][r]);
    }
  };
  int64_t i = 0;
  for (; i + kUnit <= a.cols; i += kUnit, w += Format::kUnitBytes) {
    Format format[kRows];
    BITNET_UNROLL for (int r = 0; r < kRows; ++r) {
      format[r].unpack(w + r * a.row_bytes);
      if constexpr (kTokens == 1) prefetch<Format::kUnitBytes>(w + (kRows + r) * a.row_bytes);
    }
    for (int c = 0; c < Format::kChunks; ++c) {
      V weight[kRows];
      BITNET_UNROLL for (int r = 0; r < kRows; ++r) weight[r] = format[r].chunk(c);
      accumulate(weight, i + c * kLanes);
    }
  }
  if constexpr (Format::kElementBytes != 0) {
    if (i < a.cols) {
      V weight[kRows];
      BITNET_UNROLL for (int r = 0; r < kRows; ++r) {
        alignas(64) uint8_t tail[Format::kUnitBytes] = {};
        __builtin_memcpy(tail, w + r * a.row_bytes,
                         static_cast<size_t>((a.cols - i) * Format::kElementBytes));
        Format format;
        format.unpack(tail);
        weight[r] = format.chunk(0);
      }
      accumulate(weight, i);
    }
  }
  BITNET_UNROLL for (int t = 0; t < kTokens; ++t) {
    BITNET_UNROLL for (int r = 0; r < kRows; ++r) a.y[(token + t) * a.y_stride + row + r] =
        sum[t][r].reduce_add();
  }
}

template <class V, class Format, int kRows>
void dense_row_tile(const DenseMatmulArgs& a, int64_t row) {
  int64_t token = 0;
  for (; token + V::kDenseTokens <= a.tokens; token += V::kDenseTokens)
    dense_tile<V, Format, kRows, V::kDenseTokens>(a, row, token);
  for (; token < a.tokens; ++token) dense_tile<V, Format, kRows, 1>(a, row, token);
}

template <class V, class Format>
void dense_rows(const DenseMatmulArgs& a) {
  int64_t row = a.first_row;
  for (; row + V::kDenseRows <= a.last_row; row += V::kDenseRows)
    dense_row_tile<V, Format, V::kDenseRows>(a, row);
  for (; row < a.last_row; ++row) dense_row_tile<V, Format, 1>(a, row);
}

template <class V>
void dense_matmul(const DenseMatmulArgs& a) {
  switch (a.dtype) {
    case DType::kF32:
      return dense_rows<V, F32Weights<V>>(a);
    case DType::kF16:
      return dense_rows<V, F16Weights<V>>(a);
    case DType::kBF16:
      return dense_rows<V, BF16Weights<V>>(a);
    case DType::kQ8_0:
      return dense_rows<V, Q8_0Weights<V>>(a);
    case DType::kQ6_K:
      return dense_rows<V, Q6_KWeights<V>>(a);
    case DType::kQ4_0:
      return dense_rows<V, Q4_0Weights<V>>(a);
    default:
      __builtin_trap();  // callers check the type (kernel_table.h)
  }
}

}  // namespace bitnet::kernels
