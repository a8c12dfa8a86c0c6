// RoPE angles, rotation and storing of several tokens, and the context shift.

#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kStoreHeads = 8, kStoreThreads = kStoreHeads * kWarp;

__global__ void rope_table_kernel(const RopeTableArgs args) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.positions * args.half) return;
  const float position = static_cast<float>(i / args.half);
  const auto angle = static_cast<double>(__fmul_rn(position, args.inv_freq[i % args.half]));
  args.cos[i] = static_cast<float>(cos(angle));
  args.sin[i] = static_cast<float>(sin(angle));
}

/// Grid: (tokens, heads of (q,) k and v by eights); a warp takes a head.
template <class T>
__global__ void __launch_bounds__(kStoreThreads) rope_store_kernel(const RopeStoreArgs args) {
  const int64_t token = blockIdx.x, position = args.first + token;
  const int head_dim = static_cast<int>(args.heads.head_dim), half = head_dim / 2;
  const int q_heads = static_cast<int>(args.heads.heads), kv_heads = static_cast<int>(args.heads.kv_heads);
  const int64_t stride = kv_head_stride(head_dim);
  const float* cos = args.cos + position * half;
  const float* sin = args.sin + position * half;
  T* keys = static_cast<T*>(args.cache.keys) + position * kv_heads * stride;
  T* values = static_cast<T*>(args.cache.values) + position * kv_heads * stride;
  let_next_start();
  wait_for_previous();
  const int head = (args.queries ? 0 : q_heads) + static_cast<int>(blockIdx.y) * kStoreHeads +
                   static_cast<int>(threadIdx.x) / kWarp;
  const int key = head - q_heads, value = key - kv_heads;
  if (value >= kv_heads) return;
  float* x = args.qkv + token * args.qkv_stride + head * head_dim;
  for (int i = threadIdx.x % kWarp; i < half; i += kWarp) {
    const float a = x[i], b = x[i + half];
    if (value >= 0) {
      values[value * stride + i] = from_float<T>(a);
      values[value * stride + i + half] = from_float<T>(b);
      continue;
    }
    const Rotated r = rotate(a, b, cos[i], sin[i]);
    if (key < 0) {
      x[i] = r.a;
      x[i + half] = r.b;
    } else {
      keys[key * stride + i] = from_float<T>(r.a);
      keys[key * stride + i + half] = from_float<T>(r.b);
    }
  }
}

/// One thread a pair of elements, position by position: no other thread meets its elements.
template <class T>
__global__ void __launch_bounds__(kThreads) shift_kernel(const ShiftArgs args) {
  const int64_t half = args.heads.head_dim / 2, stride = kv_head_stride(args.heads.head_dim);
  const int64_t row = args.heads.kv_heads * stride;
  const int64_t pair = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (pair >= args.heads.kv_heads * half) return;
  const int64_t i = pair % half, a = pair / half * stride + i, b = a + half;
  T* keys = static_cast<T*>(args.cache.keys);
  T* values = static_cast<T*>(args.cache.values);
  const float cos = args.cos[i], sin = args.sin[i];
  for (int64_t position = args.from; position < args.end; ++position) {
    const T* k = keys + position * row;
    const T* v = values + position * row;
    T* new_k = keys + (position - args.count) * row;
    T* new_v = values + (position - args.count) * row;
    const Rotated r = rotate(to_float(k[a]), to_float(k[b]), cos, sin);
    new_k[a] = from_float<T>(r.a);
    new_k[b] = from_float<T>(r.b);
    new_v[a] = v[a];
    new_v[b] = v[b];
  }
}

}  // namespace

void rope_table(const RopeTableArgs& args, Stream stream) {
  launch(rope_table_kernel,
         dim3(static_cast<unsigned>(ceil_div<int64_t>(args.positions * args.half, kThreads))), kThreads, 0,
         Start::kAfterPrevious, stream, args);
}

void rope_store(const RopeStoreArgs& args, Stream stream) {
  const int64_t heads = (args.queries ? args.heads.heads : 0) + 2 * args.heads.kv_heads;
  const dim3 grid(static_cast<unsigned>(args.tokens),
                  static_cast<unsigned>(ceil_div<int64_t>(heads, kStoreHeads)));
  for_kv_type(args.cache.dtype, [&](auto type) {
    launch(rope_store_kernel<typename decltype(type)::Element>, grid, kStoreThreads, 0, Start::kOverlapped,
           stream, args);
  });
}

void shift(const ShiftArgs& args, Stream stream) {
  const int64_t pairs = args.heads.kv_heads * args.heads.head_dim / 2;
  for_kv_type(args.cache.dtype, [&](auto type) {
    launch(shift_kernel<typename decltype(type)::Element>,
           dim3(static_cast<unsigned>(ceil_div<int64_t>(pairs, kThreads))), kThreads, 0,
           Start::kAfterPrevious, stream, args);
  });
}

}  // namespace bitnet::cuda
