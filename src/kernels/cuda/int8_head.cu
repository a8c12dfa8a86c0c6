// The head rounded to int8, made once from the resident head, of any dtype. A warp takes a row.

#include "kernels/cuda/dense.cuh"
#include "kernels/cuda/int8_tiles.cuh"
#include "kernels/cuda/launch.cuh"

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = kThreads / kWarp;
constexpr float kLargest = 1e10f;
// An f64 norm is wrong by less than cols * 2^-53 of itself.
constexpr double kRoundUp = 1 + 0x1p-20;

__device__ __forceinline__ float round_up(double value) {
  return __double2float_ru(value * kRoundUp);
}

/// Weights 8 * chunk ...; zeros behind the row, whose last sixteen columns are padded.
template <DType kType>
__device__ __forceinline__ void load_chunk(const DenseRows& head, const uint8_t* row, int64_t chunk,
                                           float (&w)[8]) {
  if (chunk * 8 < (head.cols + 15) / 16 * 16) {
    DenseFormat<kType>::load8(row, chunk, w);
#pragma unroll
    for (int j = 0; j < 8; ++j) w[j] = chunk * 8 + j < head.cols ? w[j] : 0.0f;
  } else {
#pragma unroll
    for (int j = 0; j < 8; ++j) w[j] = 0.0f;
  }
}

struct RoundArgs {
  DenseRows head;
  Int8Copy copy;
};

template <DType kType>
__global__ void __launch_bounds__(kThreads) round_kernel(const RoundArgs args) {
  const int64_t index = int64_t{blockIdx.x} * kRows + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (index >= args.copy.groups * kInt8GroupRows) return;
  const bool exists = index < args.head.count;
  const auto* row = static_cast<const uint8_t*>(args.head.rows) +
                    (exists ? index : args.head.count - 1) * args.head.row_bytes;
  const int64_t chunks = args.copy.blocks * kInt8BlockCols / 8;
  uint32_t largest_bits = 0;
  for (int64_t chunk = lane; chunk < chunks; chunk += kWarp) {
    float w[8];
    load_chunk<kType>(args.head, row, chunk, w);
#pragma unroll
    for (int j = 0; j < 8; ++j) largest_bits = max(largest_bits, __float_as_uint(w[j]) & 0x7fffffffu);
  }
  const float largest = __uint_as_float(__reduce_max_sync(0xffffffffu, largest_bits));
  const bool known = exists && largest <= kLargest;  // not so for NaN
  const bool rounds = known && largest >= 1e-30f;    // below that the inverse overflows
  const float scale = rounds ? __fdiv_rn(largest, 127.0f) : 0.0f;
  const float inverse = rounds ? __fdiv_rn(127.0f, largest) : 0.0f;
  double squares = 0, errors = 0;
  for (int64_t chunk = lane; chunk < chunks; chunk += kWarp) {
    float w[8];
    load_chunk<kType>(args.head, row, chunk, w);
    uint32_t packed[2] = {};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int q = rounds ? __float2int_rn(__fmul_rn(w[j], inverse)) : 0;
      packed[j / 4] |= (static_cast<uint32_t>(q) & 0xffu) << 8 * (j % 4);
      const double value = w[j], difference = value - static_cast<double>(scale) * q;
      squares = fma(value, value, squares);
      errors = fma(difference, difference, errors);
    }
    auto* out = reinterpret_cast<uint2*>(args.copy.tiles + int8_offset(index, chunk * 8, args.copy.blocks));
    *out = make_uint2(packed[0], packed[1]);
  }
  const double norm = sqrt(warp_sum(squares)), error = sqrt(warp_sum(errors));
  if (lane != 0) return;
  args.copy.scale[index] = scale;
  args.copy.error[index] = known ? round_up(error) : INFINITY;
  args.copy.norm[index] = known ? round_up(norm + error) : 0.0f;
}

}  // namespace

void round_head(const DenseRows& head, const Int8Copy& copy, Stream stream) {
  for_dense_type(head.dtype, [&](auto type) {
    launch(round_kernel<decltype(type)::kType>,
           dim3(static_cast<unsigned>(ceil_div<int64_t>(copy.groups * kInt8GroupRows, kRows))), kThreads, 0,
           Start::kAfterPrevious, stream, RoundArgs{head, copy});
  });
}

}  // namespace bitnet::cuda
