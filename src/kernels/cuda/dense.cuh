#pragma once

// Dense formats of embedding and head, decoded as quant/block_formats.h defines.

#include "bitnet/core/dtype.h"
#include "bitnet/core/error.h"
#include "kernels/cuda/device.cuh"

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace bitnet::cuda {

/// Weight i of a row; load8: weights 8 * chunk ... 8 * chunk + 7. Rows are 64-byte aligned and zeros follow
/// the last column up to a multiple of 16.
template <DType>
struct DenseFormat;

__device__ __forceinline__ float f16_at(const uint8_t* p) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(p[0] | p[1] << 8)));
}

template <class Format>
__device__ __forceinline__ void load8_by_value(const uint8_t* row, int64_t chunk, float (&out)[8]) {
#pragma unroll
  for (int j = 0; j < 8; ++j) out[j] = Format::value(row, chunk * 8 + j);
}

template <>
struct DenseFormat<DType::kF32> {
  static __device__ float value(const uint8_t* row, int64_t i) {
    return reinterpret_cast<const float*>(row)[i];
  }
  static __device__ __forceinline__ void load8(const uint8_t* row, int64_t chunk, float (&out)[8]) {
    const auto* p = reinterpret_cast<const uint4*>(row) + 2 * chunk;
    const uint4 a = load_stream(p), b = load_stream(p + 1);
    const uint32_t words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int j = 0; j < 8; ++j) out[j] = __uint_as_float(words[j]);
  }
};

template <>
struct DenseFormat<DType::kBF16> {
  static __device__ float value(const uint8_t* row, int64_t i) {
    return __uint_as_float(static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(row)[i]) << 16);
  }
  static __device__ __forceinline__ void load8(const uint8_t* row, int64_t chunk, float (&out)[8]) {
    const uint4 a = load_stream(reinterpret_cast<const uint4*>(row) + chunk);
    const uint32_t words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      out[2 * j] = __uint_as_float(words[j] << 16);
      out[2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u);
    }
  }
};

template <>
struct DenseFormat<DType::kF16> {
  static __device__ float value(const uint8_t* row, int64_t i) { return f16_at(row + 2 * i); }
  static __device__ __forceinline__ void load8(const uint8_t* row, int64_t chunk, float (&out)[8]) {
    const uint4 a = load_stream(reinterpret_cast<const uint4*>(row) + chunk);
    const uint32_t words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      out[2 * j] = __half2float(__ushort_as_half(static_cast<unsigned short>(words[j] & 0xffffu)));
      out[2 * j + 1] = __half2float(__ushort_as_half(static_cast<unsigned short>(words[j] >> 16)));
    }
  }
};

/// Blocks of 32: f16 scale, then int8.
template <>
struct DenseFormat<DType::kQ8_0> {
  static __device__ float value(const uint8_t* row, int64_t i) {
    const uint8_t* block = row + i / 32 * 34;
    return __fmul_rn(f16_at(block), static_cast<float>(static_cast<int8_t>(block[2 + i % 32])));
  }
  static __device__ __forceinline__ void load8(const uint8_t* row, int64_t chunk, float (&out)[8]) {
    load8_by_value<DenseFormat>(row, chunk, out);
  }
};

/// Blocks of 32: f16 scale, then the low nibbles of weights 0..15, the high ones of 16..31.
template <>
struct DenseFormat<DType::kQ4_0> {
  static __device__ float value(const uint8_t* row, int64_t i) {
    const uint8_t* block = row + i / 32 * 18;
    const int pair = block[2 + i % 16];
    return __fmul_rn(f16_at(block), static_cast<float>((i % 32 < 16 ? pair & 15 : pair >> 4) - 8));
  }
  static __device__ __forceinline__ void load8(const uint8_t* row, int64_t chunk, float (&out)[8]) {
    load8_by_value<DenseFormat>(row, chunk, out);
  }
};

/// Blocks of 256: low nibbles, high bit pairs, a sub-scale for 16 weights, f16 scale
/// (quant/block_formats.cpp).
template <>
struct DenseFormat<DType::kQ6_K> {
  static __device__ float value(const uint8_t* row, int64_t i) {
    const uint8_t* block = row + i / 256 * 210;
    const int at = static_cast<int>(i % 256), half = at / 128, quarter = at / 32 % 4, lane = at % 32;
    const int low = block[64 * half + 32 * (quarter % 2) + lane] >> (4 * (quarter / 2)) & 15;
    const int high = block[128 + 32 * half + lane] >> (2 * quarter) & 3;
    const auto sub_scale = static_cast<float>(static_cast<int8_t>(block[192 + at / 16]));
    return __fmul_rn(__fmul_rn(f16_at(block + 208), sub_scale), static_cast<float>((low | high << 4) - 32));
  }
  /// Eight neighbours share quarter and sub-scale; blocks are 210 bytes: 2-byte loads.
  static __device__ __forceinline__ void load8(const uint8_t* row, int64_t chunk, float (&out)[8]) {
    const uint8_t* block = row + chunk / 32 * 210;
    const int at = static_cast<int>(chunk % 32) * 8, half = at / 128, quarter = at / 32 % 4, lane = at % 32;
    const auto* low = reinterpret_cast<const uint16_t*>(block + 64 * half + 32 * (quarter % 2) + lane);
    const auto* high = reinterpret_cast<const uint16_t*>(block + 128 + 32 * half + lane);
    const auto sub_scale = static_cast<float>(static_cast<int8_t>(block[192 + at / 16]));
    const float scale = __fmul_rn(f16_at(block + 208), sub_scale);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      const int lows = low[pair] >> (4 * (quarter / 2)), highs = high[pair] >> (2 * quarter);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int q = (lows >> (8 * j) & 15) | (highs >> (8 * j) & 3) << 4;
        out[2 * pair + j] = __fmul_rn(scale, static_cast<float>(q - 32));
      }
    }
  }
};

template <DType kValue>
struct DenseType {
  static constexpr DType kType = kValue;
};

/// body(DenseType<dtype>).
template <class Body>
void for_dense_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body(DenseType<DType::kF32>{});
    case DType::kF16:
      return body(DenseType<DType::kF16>{});
    case DType::kBF16:
      return body(DenseType<DType::kBF16>{});
    case DType::kQ8_0:
      return body(DenseType<DType::kQ8_0>{});
    case DType::kQ4_0:
      return body(DenseType<DType::kQ4_0>{});
    case DType::kQ6_K:
      return body(DenseType<DType::kQ6_K>{});
    default:
      throw Error(ErrorCode::kUnsupported,
                  "the GPU has no kernel for an embedding or head of type " + std::string(to_string(dtype)),
                  "use --device cpu");
  }
}

}  // namespace bitnet::cuda
