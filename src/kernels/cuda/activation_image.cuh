#pragma once

// How rows of int8 activations lie for wgmma: for each tile of 128 columns all tokens, padded to 128, of 128
// bytes. Within eight tokens' kilobyte the 16-byte vectors are swizzled, vector v of token t at v xor (t mod
// 8). The quads of columns stand in the order in which packed weights give them (quant/ternary_tiles.h): of
// the 32 columns of a step, lane t's register pair is columns 16t + 8s ... + 3 and the four behind.

#include "kernels/cuda_table.h"

#include <cstdint>

namespace bitnet::cuda {

inline constexpr int64_t kImageRow = 128;

__host__ __device__ constexpr int64_t image_tokens(int64_t tokens) {
  return (tokens + kImageTokens - 1) / kImageTokens * kImageTokens;
}
/// Of the first byte of `token`, a multiple of 8, in column tile k.
__host__ __device__ constexpr int64_t image_offset(int64_t token, int64_t k, int64_t tokens) {
  return (k * image_tokens(tokens) + token) * kImageRow;
}
/// Of four columns: quad q of a token's row.
__host__ __device__ constexpr int64_t image_quad_offset(int64_t token, int64_t quad, int64_t tokens) {
  const int64_t in_tile = quad % 32, half = in_tile / 16, lane = in_tile % 16 / 4, field = in_tile % 4;
  const int64_t vector = (2 * half + field / 2) * 2 + field % 2;
  return image_offset(token, quad / 32, tokens) + (vector ^ (token % 8)) * 16 + lane * 4;
}

}  // namespace bitnet::cuda
