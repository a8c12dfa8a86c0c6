// Attention of one new token of each sequence, with RoPE and storing. A chunk of the cache is cut into eight
// slices: of keys for the scores, whose chains of fma are a thread's each, and of dimensions for the values.
// A cluster of eight blocks takes one chunk of one key head, each block a slice, and they exchange their
// scores through shared memory. The last to finish for a slice of dimensions joins the chunks, in order.
// Where there are no clusters, or rows enough without them: batch_attention.cu.

#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/launch.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kSlices = 8;
constexpr int kSliceKeys = kChunk / kSlices;
static_assert(kSliceKeys == kWarp, "a lane computes the score of one key");
constexpr int kMaxSliceDims = kMaxHeadDim / kSlices;
static_assert(kDecodePartial == kSlices * (kMaxSliceDims + 2));

__host__ __device__ constexpr int slice_dims_of(int head_dim) {
  return ((head_dim + kSlices - 1) / kSlices + 7) / 8 * 8;
}

template <int kHeads>
struct Shared : AttentionState<kHeads> {
  float exchange[kHeads][kSliceKeys];  ///< this block's scores, for the cluster
};

/// Starts copying keys [32 slice, ...) of the chunk that older kernels have stored.
template <class T>
__device__ void stage_keys(const Task<T>& task, int slice, std::byte* staging) {
  const int vectors = task.padded_dim() * static_cast<int>(sizeof(T)) / kVectorBytes;
  for (int i = threadIdx.x; i < kSliceKeys * vectors; i += kThreads) {
    const int key = i / vectors, vector = i % vectors, in_chunk = slice * kSliceKeys + key;
    const int position = task.chunk_begin + in_chunk;
    if (in_chunk >= task.length || position == task.position) continue;
    const auto* row = reinterpret_cast<const std::byte*>(task.keys + position * task.stride);
    copy_async(staging + key * task.key_bytes() + vector * kVectorBytes, row + vector * kVectorBytes, true);
  }
}

/// Starts copying dimensions [slice * slice_dims, ...) of the chunk's values.
template <class T>
__device__ void stage_values(const Task<T>& task, int slice, std::byte* staging) {
  const int first = slice * slice_dims_of(task.head_dim);
  const int dims = min(slice_dims_of(task.head_dim), task.padded_dim() - first);
  if (dims <= 0) return;
  const int vectors = dims * static_cast<int>(sizeof(T)) / kVectorBytes;
  const int row_bytes = slice_dims_of(task.head_dim) * static_cast<int>(sizeof(T));
  for (int i = threadIdx.x; i < task.length * vectors; i += kThreads) {
    const int p = i / vectors, vector = i % vectors, position = task.chunk_begin + p;
    if (position == task.position) continue;
    const auto* row = reinterpret_cast<const std::byte*>(task.values + position * task.stride + first);
    copy_async(staging + p * row_bytes + vector * kVectorBytes, row + vector * kVectorBytes, true);
  }
}

/// The score of lane `lane`'s key, -inf if it is not seen. The fma chain is over all dimensions, in order.
template <class T, int kHeads>
__device__ void score_slice(const DecodeAttentionArgs& args, const Task<T>& task, int slice,
                            const std::byte* staging, Shared<kHeads>& s) {
  const int lane = threadIdx.x % kWarp, in_chunk = slice * kSliceKeys + lane;
  const bool seen = in_chunk < task.length;
  const bool is_new = task.chunk_begin + in_chunk == task.position;
  const T* key = reinterpret_cast<const T*>(staging + lane * task.key_bytes());
  constexpr int kVector = kVectorBytes / sizeof(T);
  for (int h = threadIdx.x / kWarp; h < kHeads; h += kThreads / kWarp) {
    float sum = 0;
    if (is_new) {
      for (int d = 0; d < task.head_dim; ++d) sum = fmaf(s.q[h][d], s.new_k[d], sum);
    } else if (seen) {
      int d = 0;
#pragma unroll 4
      for (; d + kVector <= task.head_dim; d += kVector) {
        const uint4 packed = *reinterpret_cast<const uint4*>(key + d);
        const T* elements = reinterpret_cast<const T*>(&packed);
#pragma unroll
        for (int j = 0; j < kVector; ++j) sum = fmaf(s.q[h][d + j], to_float(elements[j]), sum);
      }
      for (; d < task.head_dim; ++d) sum = fmaf(s.q[h][d], to_float(key[d]), sum);
    }
    s.exchange[h][lane] = seen ? sum * args.scale : -INFINITY;
  }
}

/// Where a slice of a chunk leaves its elements, maximum and total, [kHeads][dims], [kHeads], [kHeads].
template <int kHeads>
__device__ float* partial_of(const DecodeAttentionArgs& args, int slice, int chunk) {
  constexpr int kFloats = kHeads * (kMaxSliceDims + 2);
  const int64_t part = int64_t{blockIdx.z} * gridDim.y + blockIdx.y;
  return args.partial + ((part * kSlices + slice) * args.partial_chunks + chunk) * kFloats;
}

template <class T, int kHeads>
__device__ float* output_of(const DecodeAttentionArgs& args, const Task<T>& task, int row, int h, int slice) {
  return args.out + row * args.out_stride + int64_t{task.first_head + h} * task.head_dim +
         slice * slice_dims_of(task.head_dim);
}

/// Elements of a slice: o = sum of weights times values, in order of position.
template <class T, int kHeads>
__device__ void add_values(const DecodeAttentionArgs& args, const Task<T>& task, int row, int slice,
                           int chunk, bool only, const std::byte* staging, const Shared<kHeads>& s) {
  const T* values = reinterpret_cast<const T*>(staging);
  const int dims = min(slice_dims_of(task.head_dim), task.head_dim - slice * slice_dims_of(task.head_dim));
  float* partial = partial_of<kHeads>(args, slice, chunk);
  const int stored = task.has_new ? task.length - 1 : task.length;
  for (int i = threadIdx.x; i < kHeads * slice_dims_of(task.head_dim); i += kThreads) {
    const int h = i / slice_dims_of(task.head_dim), d = i % slice_dims_of(task.head_dim);
    if (d >= dims || h >= task.heads) continue;
    float o = 0;
#pragma unroll 8
    for (int p = 0; p < stored; ++p)
      o = fmaf(s.weights[h][p], to_float(values[p * slice_dims_of(task.head_dim) + d]), o);
    if (task.has_new) o = fmaf(s.weights[h][stored], s.new_v[slice * slice_dims_of(task.head_dim) + d], o);
    if (only) {
      output_of<T, kHeads>(args, task, row, h, slice)[d] = o * __fdiv_rn(1.0f, s.total[h]);
    } else {
      partial[h * kMaxSliceDims + d] = o;
    }
  }
  if (only || threadIdx.x >= kHeads) return;
  partial[kHeads * kMaxSliceDims + threadIdx.x] = s.maximum[threadIdx.x];
  partial[kHeads * kMaxSliceDims + kHeads + threadIdx.x] = s.total[threadIdx.x];
}

/// Joins all chunks of a slice, in order (attention_merge).
template <class T, int kHeads>
__device__ void join_chunks(const DecodeAttentionArgs& args, const Task<T>& task, int row, int slice,
                            int chunks) {
  const int dims = min(slice_dims_of(task.head_dim), task.head_dim - slice * slice_dims_of(task.head_dim));
  for (int i = threadIdx.x; i < kHeads * slice_dims_of(task.head_dim); i += kThreads) {
    const int h = i / slice_dims_of(task.head_dim), d = i % slice_dims_of(task.head_dim);
    if (d >= dims || h >= task.heads) continue;
    Joined joined;
#pragma unroll 4
    for (int c = 0; c < chunks; ++c) {
      const float* partial = partial_of<kHeads>(args, slice, c);
      joined.add(c == 0, __ldcg(partial + kHeads * kMaxSliceDims + h),
                 __ldcg(partial + kHeads * kMaxSliceDims + kHeads + h),
                 __ldcg(partial + h * kMaxSliceDims + d));
    }
    output_of<T, kHeads>(args, task, row, h, slice)[d] = joined.result();
  }
}

/// Grid: (chunks x slices, parts of a key head's query heads x key heads, rows).
template <class T, int kHeads>
__global__ void __launch_bounds__(kThreads) decode_kernel(const DecodeAttentionArgs args) {
  extern __shared__ uint4 dynamic[];
  __shared__ Shared<kHeads> s;
  auto* const staging = reinterpret_cast<std::byte*>(dynamic);
  const int slice = static_cast<int>(blockIdx.x) % kSlices, chunk = static_cast<int>(blockIdx.x) / kSlices;
  const DecodeRow row = args.rows[blockIdx.z];
  const Task<T> task = make_task<T, kHeads>(args, row, chunk, slice == 0);
  std::byte* const value_staging = staging + kSliceKeys * task.key_bytes();
  if (task.length > 0) {  // what older kernels stored can travel while the one in front still runs
    stage_keys(task, slice, staging);
    stage_values(task, slice, value_staging);
  }
  commit_copies();
  let_next_start();
  wait_for_previous();
  if (task.length <= 0) return;  // all blocks of a cluster
  rotate_new(args, task, s);
  wait_copies<0>();
  __syncthreads();
  score_slice(args, task, slice, staging, s);
  cluster_arrive();
  cluster_wait();
  for (int i = threadIdx.x; i < kHeads * kChunk; i += kThreads) {
    const int h = i / kChunk, p = i % kChunk;
    s.weights[h][p] =
        __uint_as_float(load_remote(remote_address(&s.exchange[h][p % kSliceKeys], p / kSliceKeys)));
  }
  cluster_arrive();
  __syncthreads();
  softmax(s, task.length);
  __syncthreads();
  const int chunks = task.position / kChunk + 1;
  add_values(args, task, row.row, slice, chunk, chunks == 1, value_staging, s);
  cluster_wait();  // nobody reads this block's scores any more
  if (chunks == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t* arrived = args.arrived + (int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * kSlices + slice;
    s.is_last = atomicAdd(arrived, 1) == chunks - 1;
    if (s.is_last) *arrived = 0;
  }
  __syncthreads();
  if (!s.is_last) return;
  __threadfence();
  join_chunks<T, kHeads>(args, task, row.row, slice, chunks);
}

template <class T, int kHeads>
void run_heads(const DecodeAttentionArgs& args, Stream stream) {
  const auto head_dim = static_cast<int>(args.heads.head_dim);
  const int64_t group = args.heads.heads / args.heads.kv_heads;
  const size_t keys = kSliceKeys * (static_cast<size_t>(kv_head_stride(head_dim)) * sizeof(T) + kVectorBytes);
  const size_t values = kChunk * static_cast<size_t>(slice_dims_of(head_dim)) * sizeof(T);
  const dim3 grid(static_cast<unsigned>(args.max_chunks * kSlices),
                  static_cast<unsigned>(args.heads.kv_heads * ceil_div<int64_t>(group, kHeads)),
                  static_cast<unsigned>(args.row_count));
  launch(decode_kernel<T, kHeads>, grid, kThreads, keys + values, Start::kOverlapped, stream, args,
         {.blocks = kSlices});
}

}  // namespace

void decode_attention(const DecodeAttentionArgs& args, Stream stream) {
  // A key head of a row is a block at least: with as many as half the multiprocessors, clusters only cost.
  const int64_t blocks = args.row_count * args.heads.kv_heads;
  if (!device_limits().clusters || blocks >= device_limits().multiprocessors / 2)
    return batch_attention(args, stream);
  for_heads(args, [&](auto type, auto count) {
    run_heads<typename decltype(type)::Element, decltype(count)::kHeads>(args, stream);
  });
}

}  // namespace bitnet::cuda
