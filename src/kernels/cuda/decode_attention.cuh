#pragma once

// What the two kernels of decode attention (decode_attention.cu, batch_attention.cu) share.

#include "kernels/cuda/kv.cuh"
#include "kernels/cuda_table.h"

namespace bitnet::cuda {

inline constexpr int kChunk = kernels::kAttentionChunk;
inline constexpr int kVectorBytes = 16;

/// What a block works on, and the sizes that follow from head_dim.
template <class T>
struct Task {
  const float* qkv;
  T* keys;  ///< of this layer and key head; positions are `stride` elements apart
  T* values;
  int64_t stride;
  int position, chunk_begin, length;  ///< length: positions of the chunk that are seen
  int kv_head, first_head, heads;
  int head_dim;
  bool has_new, stores;

  [[nodiscard]] __device__ int padded_dim() const { return static_cast<int>(kv_head_stride(head_dim)); }
  /// Bytes of a key in shared memory: one vector more than it has, so that 8 lanes meet all banks once.
  [[nodiscard]] __device__ int key_bytes() const {
    return padded_dim() * static_cast<int>(sizeof(T)) + kVectorBytes;
  }
};

/// Query heads, their weights in a chunk, and the new position's key and value.
template <int kHeads>
struct alignas(16) AttentionState {
  float q[kHeads][kMaxHeadDim];
  float weights[kHeads][kChunk];  ///< scores, and then e^(score - maximum)
  float new_k[kMaxHeadDim], new_v[kMaxHeadDim];
  float maximum[kHeads], total[kHeads];
  int is_last;
};

/// q of the block's heads, and in the chunk with the new position its key and value, rounded as stored.
template <class T, int kHeads>
__device__ void rotate_new(const DecodeAttentionArgs& args, const Task<T>& task, AttentionState<kHeads>& s) {
  constexpr int kTogether = 2;  // pairs of a thread whose loads do not wait for one another
  constexpr int kKey = kHeads;  // behind the queries
  const int half = task.head_dim / 2, threads = static_cast<int>(blockDim.x);
  const float* cos = args.cos + int64_t{task.position} * half;
  const float* sin = args.sin + int64_t{task.position} * half;
  const int64_t row = task.position * task.stride;
  const int pairs = (kHeads + (task.has_new ? 2 : 0)) * half;
  for (int base = threadIdx.x; base < pairs; base += kTogether * threads) {
    float a[kTogether], b[kTogether], c[kTogether], d[kTogether];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int j = min(base + n * threads, pairs - 1), vector = j / half, i = j % half;
      const int64_t query = task.first_head + min(vector, task.heads - 1);
      const int64_t other = args.heads.heads + task.kv_head + (vector - kKey) * args.heads.kv_heads;
      const float* x = task.qkv + (vector < kKey ? query : other) * task.head_dim;
      a[n] = __ldcg(x + i), b[n] = __ldcg(x + i + half), c[n] = cos[i], d[n] = sin[i];
    }
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int j = base + n * threads, vector = j / half, i = j % half;
      if (j >= pairs) break;
      const Rotated r = vector <= kKey ? rotate(a[n], b[n], c[n], d[n]) : Rotated{a[n], b[n]};
      if (vector < kKey) {
        s.q[vector][i] = r.a;
        s.q[vector][i + half] = r.b;
        continue;
      }
      const T low = from_float<T>(r.a), high = from_float<T>(r.b);
      float* rounded = vector == kKey ? s.new_k : s.new_v;
      rounded[i] = to_float(low);
      rounded[i + half] = to_float(high);
      if (!task.stores) continue;
      T* stored = (vector == kKey ? task.keys : task.values) + row;
      stored[i] = low;
      stored[i + half] = high;
    }
  }
}

/// The weights of the chunk's `length` positions, their maximum, and their sum in the order of sixteen lanes;
/// a warp for a head. Up to a multiple of 32 positions have scores, -inf behind `length`.
template <int kHeads>
__device__ void softmax(AttentionState<kHeads>& s, int length) {
  const int lane = threadIdx.x % kWarp;
  for (int h = threadIdx.x / kWarp; h < kHeads; h += static_cast<int>(blockDim.x) / kWarp) {
    float* w = s.weights[h];
    float maximum = w[lane];
#pragma unroll
    for (int i = kWarp; i < kChunk; i += kWarp) maximum = i < length ? fmaxf(maximum, w[lane + i]) : maximum;
#pragma unroll
    for (int mask = kWarp / 2; mask > 0; mask /= 2)
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, mask));
#pragma unroll
    for (int i = 0; i < kChunk; i += kWarp) {
      if (i < length) w[lane + i] = exp_exact(w[lane + i] - maximum);
    }
    __syncwarp();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kChunk; i += 16) sum += i < length ? w[i + lane % 16] : 0.0f;
#pragma unroll
    for (int mask = 8; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    if (lane == 0) {
      s.maximum[h] = maximum;
      s.total[h] = sum;
    }
  }
}

/// Joins a chunk's (maximum, total, o) to what the chunks before it gave (attention_merge).
struct Joined {
  float maximum = 0, total = 0, o = 0;

  __device__ __forceinline__ void add(bool first, float part_maximum, float part_total, float part_o) {
    const float highest = first ? part_maximum : maximum > part_maximum ? maximum : part_maximum;
    if (first) {
      total = part_total;
      o = part_o;
    } else {
      const float a = exp_exact(maximum - highest), b = exp_exact(part_maximum - highest);
      total = fmaf(total, a, __fmul_rn(part_total, b));
      o = fmaf(o, a, __fmul_rn(part_o, b));
    }
    maximum = highest;
  }
  [[nodiscard]] __device__ __forceinline__ float result() const { return o * __fdiv_rn(1.0f, total); }
};

/// Of the block (., part of a key head's query heads x key head, row).
template <class T, int kHeads>
__device__ Task<T> make_task(const DecodeAttentionArgs& args, const DecodeRow& row, int chunk, bool stores) {
  const int group = static_cast<int>(args.heads.heads / args.heads.kv_heads);
  const int parts = (group + kHeads - 1) / kHeads, part = static_cast<int>(blockIdx.y) % parts;
  Task<T> task;
  task.head_dim = static_cast<int>(args.heads.head_dim);
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

/// Query heads that a block attends together.
template <int kCount>
struct HeadCount {
  static constexpr int kHeads = kCount;
};
/// body(KvType<T>, HeadCount<kHeads>): with keys of their own heads come one by one, else by up to four.
template <class Body>
void for_heads(const DecodeAttentionArgs& args, Body&& body) {
  for_kv_type(args.kv_type, [&](auto type) {
    if (args.heads.heads == args.heads.kv_heads) {
      body(type, HeadCount<1>{});
    } else {
      body(type, HeadCount<4>{});
    }
  });
}

/// Where many rows give enough blocks of a whole chunk each.
void batch_attention(const DecodeAttentionArgs& args, Stream stream);

}  // namespace bitnet::cuda
