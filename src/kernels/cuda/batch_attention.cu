// Decode attention of many sequences, and of any number where the GPU has no clusters: a block takes a whole
// chunk of one key head, staged in parts, of which one comes while another is used. A thread has a key, and
// then an element of the result: the chains of fma are those of decode_attention.cu. The last block of a row
// and key head joins the chunks, in order.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/launch.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostPart = 128, kLeastPart = kWarp;
constexpr size_t kGoodSharedBytes = 40 * 1024;  // four blocks on a multiprocessor

/// Shared memory: two slots for `positions` keys or values.
struct Parts {
  int positions;
  size_t bytes;
};
template <class T>
Parts parts_of(int64_t head_dim) {
  const size_t row = static_cast<size_t>(kv_head_stride(head_dim)) * sizeof(T);
  Parts parts{kMostPart, 0};
  for (;; parts.positions /= 2) {
    parts.bytes = 2 * static_cast<size_t>(parts.positions) * (row + kVectorBytes);
    if (parts.bytes <= kGoodSharedBytes || parts.positions == kLeastPart) return parts;
  }
}

struct Args {
  DecodeAttentionArgs attention;
  int part;  ///< positions staged at once
};

/// Starts copying rows [begin, begin + part) of the chunk's keys or values that older kernels have stored.
template <class T>
__device__ void stage(const Task<T>& task, const T* rows, int begin, int part, int row_bytes,
                      std::byte* staging) {
  const int vectors = task.padded_dim() * static_cast<int>(sizeof(T)) / kVectorBytes;
  const int count = min(part, task.length - begin) * vectors;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const int row = i / vectors, vector = i % vectors, position = task.chunk_begin + begin + row;
    if (position == task.position) continue;
    const auto* source = reinterpret_cast<const std::byte*>(rows + position * task.stride);
    copy_async(staging + row * row_bytes + vector * kVectorBytes, source + vector * kVectorBytes, true);
  }
}

/// Puts the new position's row among the staged ones, if it is one of them.
template <class T>
__device__ void place_new(const Task<T>& task, const float* row, int begin, int part, int row_bytes,
                          std::byte* staging) {
  const int at = task.length - 1 - begin;
  if (!task.has_new || at < 0 || at >= part) return;
  T* staged = reinterpret_cast<T*>(staging + at * row_bytes);
  for (int i = threadIdx.x; i < task.head_dim; i += kThreads) staged[i] = from_float<T>(row[i]);
  __syncthreads();
}

/// Scores of positions [begin, begin + part), -inf where they are not seen. A thread takes a key and
/// kTogether heads at once.
template <int kTogether, class T, int kHeads>
__device__ void score_part(const DecodeAttentionArgs& args, const Task<T>& task, int begin, int part,
                           const std::byte* staging, AttentionState<kHeads>& s) {
  constexpr int kVector = kVectorBytes / sizeof(T);
  const int at = static_cast<int>(threadIdx.x) % part, groups = kThreads / part;
  const bool seen = begin + at < task.length;
  const T* key = reinterpret_cast<const T*>(staging + at * task.key_bytes());
  for (int first = static_cast<int>(threadIdx.x) / part; first < kHeads; first += kTogether * groups) {
    int heads[kTogether];
    float sums[kTogether] = {};
#pragma unroll
    for (int u = 0; u < kTogether; ++u) heads[u] = first + u * groups;
    int d = 0;
#pragma unroll 4
    for (; seen && d + kVector <= task.head_dim; d += kVector) {
      const uint4 packed = *reinterpret_cast<const uint4*>(key + d);
      const T* elements = reinterpret_cast<const T*>(&packed);
#pragma unroll
      for (int j = 0; j < kVector; j += 4) {
#pragma unroll
        for (int u = 0; u < kTogether; ++u) {
          const float4 q = *reinterpret_cast<const float4*>(&s.q[heads[u]][d + j]);
          sums[u] = fmaf(q.x, to_float(elements[j]), sums[u]);
          sums[u] = fmaf(q.y, to_float(elements[j + 1]), sums[u]);
          sums[u] = fmaf(q.z, to_float(elements[j + 2]), sums[u]);
          sums[u] = fmaf(q.w, to_float(elements[j + 3]), sums[u]);
        }
      }
    }
    for (; seen && d < task.head_dim; ++d) {
#pragma unroll
      for (int u = 0; u < kTogether; ++u) sums[u] = fmaf(s.q[heads[u]][d], to_float(key[d]), sums[u]);
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u)
      s.weights[heads[u]][begin + at] = seen ? sums[u] * args.scale : -INFINITY;
  }
}

__device__ __forceinline__ float2 pair_at(const __half* p) {
  return __half22float2(*reinterpret_cast<const __half2*>(p));
}
__device__ __forceinline__ float2 pair_at(const float* p) {
  return *reinterpret_cast<const float2*>(p);
}

/// Pairs of neighbours of [kHeads][head_dim] that a thread has: pairs threadIdx.x, threadIdx.x + kThreads ...
template <int kHeads>
inline constexpr int kPairs = kHeads == 1 ? 1 : kHeads* static_cast<int>(kMaxHeadDim) / 2 / kThreads;

/// out += weights times values of [begin, begin + part), in order of position.
template <class T, int kHeads>
__device__ void add_part(const Task<T>& task, int begin, int part, const std::byte* staging,
                         const AttentionState<kHeads>& s, float2 (&out)[kPairs<kHeads>]) {
  const T* values = reinterpret_cast<const T*>(staging);
  const int stride = task.padded_dim(), count = min(part, task.length - begin);
#pragma unroll
  for (int n = 0; n < kPairs<kHeads>; ++n) {
    const int e = 2 * (n * kThreads + static_cast<int>(threadIdx.x)), h = e / task.head_dim;
    if (h >= kHeads) break;
    const T* column = values + e % task.head_dim;
    const float* weights = &s.weights[h][begin];
    const auto add = [&](float weight, int p) {
      const float2 v = pair_at(column + p * stride);
      out[n].x = fmaf(weight, v.x, out[n].x);
      out[n].y = fmaf(weight, v.y, out[n].y);
    };
    int p = 0;
#pragma unroll 2
    for (; p + 4 <= count; p += 4) {
      const float4 w = *reinterpret_cast<const float4*>(weights + p);
      add(w.x, p);
      add(w.y, p + 1);
      add(w.z, p + 2);
      add(w.w, p + 3);
    }
    for (; p < count; ++p) add(weights[p], p);
  }
}

/// Where a chunk leaves its elements, maxima and totals: [kHeads][head_dim], [kHeads], [kHeads].
template <int kHeads>
__device__ float* partial_of(const DecodeAttentionArgs& args, int chunk) {
  const int64_t block = int64_t{blockIdx.z} * gridDim.y + blockIdx.y;
  return args.partial + (block * args.partial_chunks + chunk) * (kHeads * kDecodePartial);
}
static_assert(kDecodePartial >= kMaxHeadDim + 2);

/// Whether all other chunks of the row and key head have left their parts.
template <int kHeads>
__device__ bool all_arrived(const DecodeAttentionArgs& args, int chunks, AttentionState<kHeads>& s) {
  constexpr int kCounters = 8;  // that a row and key head has
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t* arrived = args.arrived + (int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * kCounters;
    s.is_last = atomicAdd(arrived, 1) == chunks - 1;
    if (s.is_last) *arrived = 0;
  }
  __syncthreads();
  __threadfence();
  return s.is_last;
}

/// Writes the result of this thread's elements: of the only chunk, or of all joined by the last block.
template <class T, int kHeads>
__device__ void finish(const DecodeAttentionArgs& args, const Task<T>& task, int row, int chunk,
                       AttentionState<kHeads>& s, const float2 (&sums)[kPairs<kHeads>]) {
  const int chunks = task.position / kChunk + 1, elements = kHeads * task.head_dim;
  float* out = args.out + row * args.out_stride + int64_t{task.first_head} * task.head_dim;
  float* partial = partial_of<kHeads>(args, chunk);
#pragma unroll
  for (int n = 0; n < kPairs<kHeads>; ++n) {
    const int e = 2 * (n * kThreads + static_cast<int>(threadIdx.x));
    if (e >= task.heads * task.head_dim) break;
    if (chunks == 1) {
      const float inverse = __fdiv_rn(1.0f, s.total[e / task.head_dim]);
      out[e] = sums[n].x * inverse;
      out[e + 1] = sums[n].y * inverse;
    } else {
      partial[e] = sums[n].x;
      partial[e + 1] = sums[n].y;
    }
  }
  if (chunks == 1) return;
  if (threadIdx.x < kHeads) {
    partial[elements + threadIdx.x] = s.maximum[threadIdx.x];
    partial[elements + kHeads + threadIdx.x] = s.total[threadIdx.x];
  }
  if (!all_arrived(args, chunks, s)) return;
  for (int i = threadIdx.x; i < task.heads * task.head_dim; i += kThreads) {
    const int h = i / task.head_dim;
    Joined joined;
#pragma unroll 4
    for (int c = 0; c < chunks; ++c) {
      const float* part = partial_of<kHeads>(args, c);
      joined.add(c == 0, __ldcg(part + elements + h), __ldcg(part + elements + kHeads + h), __ldcg(part + i));
    }
    out[i] = joined.result();
  }
}

/// Grid: (chunks, parts of a key head's query heads x key heads, rows).
template <class T, int kHeads>
__global__ void __launch_bounds__(kThreads) batch_kernel(const Args args) {
  extern __shared__ uint4 dynamic[];
  __shared__ AttentionState<kHeads> s;
  const int chunk = static_cast<int>(blockIdx.x), part = args.part;
  const DecodeRow row = args.attention.rows[blockIdx.z];
  const Task<T> task = make_task<T, kHeads>(args.attention, row, chunk, true);
  const int value_bytes = task.padded_dim() * static_cast<int>(sizeof(T));
  // Parts of the keys and then of the values go through two slots.
  const int parts = (max(task.length, 0) + part - 1) / part;
  const auto slot = [&](int item) {
    return reinterpret_cast<std::byte*>(dynamic) + item % 2 * part * task.key_bytes();
  };
  const auto bring = [&](int item) {
    if (item < parts) {
      stage(task, task.keys, item * part, part, task.key_bytes(), slot(item));
    } else if (item < 2 * parts) {
      stage(task, task.values, (item - parts) * part, part, value_bytes, slot(item));
    }
    commit_copies();
  };
  const auto bring_behind = [&](int item) {
    if (item + 2 < 2 * parts) __syncthreads();  // the item has been read
    bring(item + 2);
  };
  bring(0);  // what older kernels stored can travel while the one in front still runs
  bring(1);
  let_next_start();
  wait_for_previous();
  if (task.length <= 0) return;
  rotate_new(args.attention, task, s);
  for (int item = 0; item < parts; ++item) {
    wait_copies<1>();
    __syncthreads();  // also behind rotate_new
    const int begin = item * part;
    place_new(task, s.new_k, begin, part, task.key_bytes(), slot(item));
    if (kHeads % 2 == 0 && kHeads > kThreads / part) {
      score_part<kHeads % 2 == 0 ? 2 : 1>(args.attention, task, begin, part, slot(item), s);
    } else {
      score_part<1>(args.attention, task, begin, part, slot(item), s);
    }
    bring_behind(item);
  }
  __syncthreads();
  softmax(s, task.length);
  float2 sums[kPairs<kHeads>] = {};
  for (int item = parts; item < 2 * parts; ++item) {
    wait_copies<1>();
    __syncthreads();  // also behind softmax
    const int begin = (item - parts) * part;
    place_new(task, s.new_v, begin, part, value_bytes, slot(item));
    add_part(task, begin, part, slot(item), s, sums);
    bring_behind(item);
  }
  finish(args.attention, task, row.row, chunk, s, sums);
}

template <class T, int kHeads>
void run_heads(const DecodeAttentionArgs& args, Stream stream) {
  const Parts parts = parts_of<T>(args.heads.head_dim);
  const int64_t group = args.heads.heads / args.heads.kv_heads;
  const dim3 grid(static_cast<unsigned>(args.max_chunks),
                  static_cast<unsigned>(args.heads.kv_heads * ceil_div<int64_t>(group, kHeads)),
                  static_cast<unsigned>(args.row_count));
  launch(batch_kernel<T, kHeads>, grid, kThreads, parts.bytes, Start::kOverlapped, stream,
         {args, parts.positions});
}

}  // namespace

void batch_attention(const DecodeAttentionArgs& args, Stream stream) {
  for_heads(args, [&](auto type, auto count) {
    run_heads<typename decltype(type)::Element, decltype(count)::kHeads>(args, stream);
  });
}

}  // namespace bitnet::cuda
