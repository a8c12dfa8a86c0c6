// Attention of one new token of each sequence, with RoPE and storing. A chunk of the cache is cut into eight
// slices: of keys for the scores, whose chains of fma are a thread's each, and of dimensions for the values.
// Where the GPU has clusters, a cluster of eight blocks takes one chunk of one key head, each block a slice,
// and they exchange their scores through shared memory; else one block takes the slices in turn. The last to
// finish for a slice of dimensions joins the chunks, in order.

#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kChunk = kernels::kAttentionChunk;
constexpr int kSlices = 8;
constexpr int kSliceKeys = kChunk / kSlices;
static_assert(kSliceKeys == kWarp, "a lane computes the score of one key");
constexpr int kMaxSliceDims = kMaxHeadDim / kSlices;
constexpr int kVectorBytes = 16;
static_assert(kDecodePartial == kSlices * (kMaxSliceDims + 2));

/// What a block works on, and the sizes that follow from head_dim.
template <class T>
struct Task {
  const float* qkv;
  T* keys;  ///< of this layer and key head; positions are `stride` elements apart
  T* values;
  int64_t stride;
  int position, chunk_begin, length;  ///< length: positions of the chunk that are seen
  int kv_head, first_head, heads;
  int head_dim, slice_dims;
  bool has_new, stores;

  [[nodiscard]] __device__ int padded_dim() const { return static_cast<int>(kv_head_stride(head_dim)); }
  /// Bytes of a key in shared memory: one vector more than it has, so that 8 lanes meet all banks once.
  [[nodiscard]] __device__ int key_bytes() const {
    return padded_dim() * static_cast<int>(sizeof(T)) + kVectorBytes;
  }
};

__host__ __device__ constexpr int slice_dims_of(int head_dim) {
  return ((head_dim + kSlices - 1) / kSlices + 7) / 8 * 8;
}

template <int kHeads>
struct Shared {
  float q[kHeads][kMaxHeadDim];
  float weights[kHeads][kChunk];       ///< scores, and then e^(score - maximum)
  float exchange[kHeads][kSliceKeys];  ///< this block's scores, for the cluster
  float new_k[kMaxHeadDim], new_v[kMaxHeadDim];
  float maximum[kHeads], total[kHeads];
  int is_last;
};

/// q of the block's heads, and in the chunk with the new position its key and value, rounded as stored.
template <class T, int kHeads>
__device__ void rotate_new(const DecodeAttentionArgs& args, const Task<T>& task, Shared<kHeads>& s) {
  const int half = task.head_dim / 2;
  const float* cos = args.cos + int64_t{task.position} * half;
  const float* sin = args.sin + int64_t{task.position} * half;
  const float* k = task.qkv + (args.heads.heads + task.kv_head) * task.head_dim;
  const float* v = k + args.heads.kv_heads * task.head_dim;
  for (int j = threadIdx.x; j < kHeads * half; j += kThreads) {
    const int h = j / half, i = j % half;
    const float* q = task.qkv + int64_t{task.first_head + min(h, task.heads - 1)} * task.head_dim;
    const Rotated r = rotate(__ldcg(q + i), __ldcg(q + i + half), cos[i], sin[i]);
    s.q[h][i] = r.a;
    s.q[h][i + half] = r.b;
  }
  if (!task.has_new) return;
  const int64_t row = task.position * task.stride;
  for (int i = threadIdx.x; i < half; i += kThreads) {
    const Rotated r = rotate(__ldcg(k + i), __ldcg(k + i + half), cos[i], sin[i]);
    const T key[2] = {from_float<T>(r.a), from_float<T>(r.b)};
    const T value[2] = {from_float<T>(__ldcg(v + i)), from_float<T>(__ldcg(v + i + half))};
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int e = i + side * half;
      s.new_k[e] = to_float(key[side]);
      s.new_v[e] = to_float(value[side]);
      if (!task.stores) continue;
      task.keys[row + e] = key[side];
      task.values[row + e] = value[side];
    }
  }
}

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
  const int first = slice * task.slice_dims;
  const int dims = min(task.slice_dims, task.padded_dim() - first);
  if (dims <= 0) return;
  const int vectors = dims * static_cast<int>(sizeof(T)) / kVectorBytes;
  const int row_bytes = task.slice_dims * static_cast<int>(sizeof(T));
  for (int i = threadIdx.x; i < task.length * vectors; i += kThreads) {
    const int p = i / vectors, vector = i % vectors, position = task.chunk_begin + p;
    if (position == task.position) continue;
    const auto* row = reinterpret_cast<const std::byte*>(task.values + position * task.stride + first);
    copy_async(staging + p * row_bytes + vector * kVectorBytes, row + vector * kVectorBytes, true);
  }
}

/// scores[h] of lane `lane`'s key, -inf if it is not seen. The fma chain is over all dimensions, in order.
template <class T, int kHeads>
__device__ void score_slice(const DecodeAttentionArgs& args, const Task<T>& task, int slice,
                            const std::byte* staging, Shared<kHeads>& s, float* scores, int head_stride) {
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
    scores[h * head_stride + lane] = seen ? sum * args.scale : -INFINITY;
  }
}

/// The chunk's weights, their maximum, and their sum in the order of sixteen lanes; a warp for a head.
template <int kHeads>
__device__ void softmax(Shared<kHeads>& s) {
  const int lane = threadIdx.x % kWarp;
  for (int h = threadIdx.x / kWarp; h < kHeads; h += kThreads / kWarp) {
    float* w = s.weights[h];
    float maximum = w[lane];
#pragma unroll
    for (int i = 1; i < kChunk / kWarp; ++i) maximum = fmaxf(maximum, w[lane + i * kWarp]);
#pragma unroll
    for (int mask = kWarp / 2; mask > 0; mask /= 2)
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, mask));
#pragma unroll
    for (int i = 0; i < kChunk / kWarp; ++i) w[lane + i * kWarp] = exp_exact(w[lane + i * kWarp] - maximum);
    __syncwarp();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kChunk / 16; ++i) sum += w[16 * i + lane % 16];
#pragma unroll
    for (int mask = 8; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    if (lane == 0) {
      s.maximum[h] = maximum;
      s.total[h] = sum;
    }
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
         slice * task.slice_dims;
}

/// Elements of a slice: o = sum of weights times values, in order of position.
template <class T, int kHeads>
__device__ void add_values(const DecodeAttentionArgs& args, const Task<T>& task, int row, int slice,
                           int chunk, bool only, const std::byte* staging, const Shared<kHeads>& s) {
  const T* values = reinterpret_cast<const T*>(staging);
  const int dims = min(task.slice_dims, task.head_dim - slice * task.slice_dims);
  float* partial = partial_of<kHeads>(args, slice, chunk);
  const int stored = task.has_new ? task.length - 1 : task.length;
  for (int i = threadIdx.x; i < kHeads * task.slice_dims; i += kThreads) {
    const int h = i / task.slice_dims, d = i % task.slice_dims;
    if (d >= dims || h >= task.heads) continue;
    float o = 0;
#pragma unroll 8
    for (int p = 0; p < stored; ++p) o = fmaf(s.weights[h][p], to_float(values[p * task.slice_dims + d]), o);
    if (task.has_new) o = fmaf(s.weights[h][stored], s.new_v[slice * task.slice_dims + d], o);
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
  const int dims = min(task.slice_dims, task.head_dim - slice * task.slice_dims);
  for (int i = threadIdx.x; i < kHeads * task.slice_dims; i += kThreads) {
    const int h = i / task.slice_dims, d = i % task.slice_dims;
    if (d >= dims || h >= task.heads) continue;
    float maximum = 0, total = 0, o = 0;
#pragma unroll 4
    for (int c = 0; c < chunks; ++c) {
      const float* partial = partial_of<kHeads>(args, slice, c);
      const float part_o = __ldcg(partial + h * kMaxSliceDims + d);
      const float part_maximum = __ldcg(partial + kHeads * kMaxSliceDims + h);
      const float part_total = __ldcg(partial + kHeads * kMaxSliceDims + kHeads + h);
      const float highest = c == 0 ? part_maximum : maximum > part_maximum ? maximum : part_maximum;
      if (c == 0) {
        total = part_total;
        o = part_o;
      } else {
        const float a = exp_exact(maximum - highest), b = exp_exact(part_maximum - highest);
        total = fmaf(total, a, __fmul_rn(part_total, b));
        o = fmaf(o, a, __fmul_rn(part_o, b));
      }
      maximum = highest;
    }
    output_of<T, kHeads>(args, task, row, h, slice)[d] = o * __fdiv_rn(1.0f, total);
  }
}

template <class T, int kHeads>
__device__ Task<T> make_task(const DecodeAttentionArgs& args, const DecodeRow& row, int chunk, bool stores) {
  const int group = static_cast<int>(args.heads.heads / args.heads.kv_heads);
  const int parts = (group + kHeads - 1) / kHeads, part = static_cast<int>(blockIdx.y) % parts;
  Task<T> task;
  task.head_dim = static_cast<int>(args.heads.head_dim);
  task.slice_dims = slice_dims_of(task.head_dim);
  task.kv_head = static_cast<int>(blockIdx.y) / parts;
  task.first_head = task.kv_head * group + part * kHeads;
  task.heads = min(kHeads, group - part * kHeads);
  task.qkv = args.qkv + row.row * args.qkv_stride;
  task.stride = args.heads.kv_heads * task.padded_dim();
  const int64_t offset = args.layer + int64_t{task.kv_head} * task.padded_dim();
  task.keys = static_cast<T*>(row.keys) + offset;
  task.values = static_cast<T*>(row.values) + offset;
  task.position = row.position;
  task.chunk_begin = chunk * kChunk;
  task.length = min(task.position + 1 - task.chunk_begin, kChunk);
  task.has_new = task.position < task.chunk_begin + kChunk;
  task.stores = stores && part == 0;
  return task;
}

/// Grid: (chunks [x slices], parts of a key head's query heads x key heads, rows).
template <class T, int kHeads, bool kCluster>
__global__ void __launch_bounds__(kThreads) decode_kernel(const DecodeAttentionArgs args) {
  extern __shared__ uint4 dynamic[];
  __shared__ Shared<kHeads> s;
  auto* const staging = reinterpret_cast<std::byte*>(dynamic);
  const int rank = kCluster ? static_cast<int>(blockIdx.x) % kSlices : 0;
  const int chunk = kCluster ? static_cast<int>(blockIdx.x) / kSlices : static_cast<int>(blockIdx.x);
  const DecodeRow row = args.rows[blockIdx.z];
  const Task<T> task = make_task<T, kHeads>(args, row, chunk, rank == 0);
  std::byte* const value_staging = kCluster ? staging + kSliceKeys * task.key_bytes() : staging;
  if constexpr (kCluster) {  // what older kernels stored can travel while the one in front still runs
    if (task.length > 0) {
      stage_keys(task, rank, staging);
      stage_values(task, rank, value_staging);
    }
    commit_copies();
  }
  let_next_start();
  wait_for_previous();
  if (task.length <= 0) return;  // all blocks of a cluster
  rotate_new(args, task, s);
  if constexpr (kCluster) {
    wait_copies<0>();
    __syncthreads();
    score_slice(args, task, rank, staging, s, &s.exchange[0][0], kSliceKeys);
    cluster_arrive();
    cluster_wait();
    for (int i = threadIdx.x; i < kHeads * kChunk; i += kThreads) {
      const int h = i / kChunk, p = i % kChunk;
      s.weights[h][p] =
          __uint_as_float(load_remote(remote_address(&s.exchange[h][p % kSliceKeys], p / kSliceKeys)));
    }
    cluster_arrive();
  } else {
    for (int slice = 0; slice < kSlices; ++slice) {
      stage_keys(task, slice, staging);
      commit_copies();
      wait_copies<0>();
      __syncthreads();
      score_slice(args, task, slice, staging, s, &s.weights[0][slice * kSliceKeys], kChunk);
      __syncthreads();
    }
  }
  __syncthreads();
  softmax(s);
  __syncthreads();
  const int chunks = task.position / kChunk + 1;
  const int first_slice = kCluster ? rank : 0, last_slice = kCluster ? rank + 1 : kSlices;
  for (int slice = first_slice; slice < last_slice; ++slice) {
    if constexpr (!kCluster) {
      __syncthreads();
      stage_values(task, slice, value_staging);
      commit_copies();
      wait_copies<0>();
      __syncthreads();
    }
    add_values(args, task, row.row, slice, chunk, chunks == 1, value_staging, s);
  }
  if constexpr (kCluster) cluster_wait();  // nobody reads this block's scores any more
  if (chunks == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t* arrived = args.arrived + (int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * kSlices + rank;
    s.is_last = atomicAdd(arrived, 1) == chunks - 1;
    if (s.is_last) *arrived = 0;
  }
  __syncthreads();
  if (!s.is_last) return;
  __threadfence();
  for (int slice = first_slice; slice < last_slice; ++slice)
    join_chunks<T, kHeads>(args, task, row.row, slice, chunks);
}

template <class T, int kHeads>
void run_heads(const DecodeAttentionArgs& args, Stream stream) {
  const auto head_dim = static_cast<int>(args.heads.head_dim);
  const int64_t group = args.heads.heads / args.heads.kv_heads;
  const bool clusters = device_limits().clusters;
  const size_t keys = kSliceKeys * (static_cast<size_t>(kv_head_stride(head_dim)) * sizeof(T) + kVectorBytes);
  const size_t values = kChunk * static_cast<size_t>(slice_dims_of(head_dim)) * sizeof(T);
  const dim3 grid(static_cast<unsigned>(args.max_chunks * (clusters ? kSlices : 1)),
                  static_cast<unsigned>(args.heads.kv_heads * ceil_div<int64_t>(group, kHeads)),
                  static_cast<unsigned>(args.row_count));
  if (clusters) {
    launch(decode_kernel<T, kHeads, true>, grid, kThreads, keys + values, Start::kOverlapped, stream, args,
           {.blocks = kSlices});
  } else {
    launch(decode_kernel<T, kHeads, false>, grid, kThreads, std::max(keys, values), Start::kOverlapped,
           stream, args);
  }
}

}  // namespace

void decode_attention(const DecodeAttentionArgs& args, Stream stream) {
  for_kv_type(args.kv_type, [&](auto type) {
    using T = typename decltype(type)::Element;
    if (args.heads.heads == args.heads.kv_heads) {
      run_heads<T, 1>(args, stream);
    } else {
      run_heads<T, 4>(args, stream);
    }
  });
}

}  // namespace bitnet::cuda
