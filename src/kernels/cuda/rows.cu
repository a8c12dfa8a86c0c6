// One block a token: norms and int8 rounding; embedding rows; gate times up.

#include "kernels/cuda/activation_image.cuh"
#include "kernels/cuda/dense.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;

template <int kBlock>
__global__ void __launch_bounds__(kBlock) quantize_kernel(const QuantizeArgs args) {
  extern __shared__ float4 row[];
  __shared__ RowReduction<kBlock> reduction;
  const int64_t token = blockIdx.x;
  const int vectors = static_cast<int>(args.q_stride / 4);
  // Weights of norms pass through the L2 cache once a layer: they travel while the kernel in front runs.
  constexpr int kLine = 32;  // floats
  const int line = static_cast<int>(threadIdx.x) * kLine;
  if (blockIdx.x == 0 && args.norms.first != nullptr) {
    for (int i = line; i < args.q_stride; i += kBlock * kLine) prefetch(args.norms.first + i);
  }
  let_next_start();
  wait_for_previous();
  normalize_row<kBlock>(args.x + token * args.x_stride, vectors, args.cols, args.norms,
                        reinterpret_cast<const float4*>(args.norms.first), row, reduction);
  RowScale scale;
  if (args.image) {
    const auto write = [&](int quad, uint32_t four) {
      *reinterpret_cast<uint32_t*>(args.q + image_quad_offset(token, quad, args.tokens)) = four;
    };
    scale = quantize_row<kBlock>(row, vectors, reduction, write);
  } else {
    auto* q = reinterpret_cast<uint32_t*>(args.q + token * args.q_stride);
    scale = quantize_row<kBlock>(row, vectors, reduction, [&](int quad, uint32_t four) { q[quad] = four; });
  }
  if (threadIdx.x != 0) return;
  args.scale[token] = scale.scale;
  args.sum[token] = scale.sum;
}

template <DType kType>
__global__ void __launch_bounds__(kThreads) embed_kernel(const EmbedArgs args) {
  const int64_t token = blockIdx.y;
  const int64_t id = args.ids == nullptr ? args.id : args.ids[token];
  const auto* source = static_cast<const uint8_t*>(args.table.rows) + id * args.table.row_bytes;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.table.cols;
       i += int64_t{gridDim.x} * kThreads) {
    args.x[token * args.x_stride + i] = DenseFormat<kType>::value(source, i);
  }
}

__global__ void __launch_bounds__(kThreads) glu_kernel(const GluArgs args) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.count) return;
  args.h[i] = __fmul_rn(args.relu2 ? relu2(args.gate[i]) : silu(args.gate[i]), args.up[i]);
}

}  // namespace

void quantize(const QuantizeArgs& args, Stream stream) {
  constexpr int64_t kWide = 4096, kFew = 128;  // columns, tokens: few blocks are waited for, many share
  const dim3 blocks(static_cast<unsigned>(args.tokens));
  const size_t shared = static_cast<size_t>(args.q_stride) * sizeof(float);
  if (args.cols <= kWide || args.tokens > kFew)
    return launch(quantize_kernel<256>, blocks, 256, shared, Start::kOverlapped, stream, args);
  launch(quantize_kernel<512>, blocks, 512, shared, Start::kOverlapped, stream, args);
}

void embed(const EmbedArgs& args, Stream stream) {
  const int64_t blocks = std::min<int64_t>(ceil_div<int64_t>(args.table.cols, kThreads), 16);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(args.tokens));
  for_dense_type(args.table.dtype, [&](auto type) {
    launch(embed_kernel<decltype(type)::kType>, grid, kThreads, 0, Start::kAfterPrevious, stream, args);
  });
}

void glu(const GluArgs& args, Stream stream) {
  launch(glu_kernel, dim3(static_cast<unsigned>(ceil_div<int64_t>(args.count, kThreads))), kThreads, 0,
         Start::kAfterPrevious, stream, args);
}

}  // namespace bitnet::cuda
