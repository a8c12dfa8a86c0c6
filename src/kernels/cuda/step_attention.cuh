#pragma once

// Attention of the persistent decode kernel. A block works for one part, up to four query heads of a key
// head, together with the other blocks of that part, in three exchanges: scores of 32 keys, a warp for each
// head; and then (step_values.cuh) sums over the values of 32 dimensions of a chunk, a warp for eight; and
// where there are several chunks, their join. The arithmetic is that of decode_attention.cu.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/step.cuh"

namespace bitnet::cuda {

#if __CUDA_ARCH__ >= 900

constexpr int kStepChunk = kernels::kAttentionChunk;
constexpr int kTogether = 2;  // slices of keys: their chains of fma hide each other's latency
constexpr int kPairSeries = kStepChunk / kWarp;  // a lane's positions of a chunk

/// One layer's attention as this block sees it: it is `worker` of its part's `workers`.
template <class T>
struct StepAttention {
  const Pair* qkv;
  Pair *scores, *sums, *out;  ///< scores and sums: of the part
  uint32_t epoch;
  T *keys, *values;  ///< of this layer and key head
  int position, context, heads, kv_heads, head_dim;
  float scale;
  std::byte *key_region, *value_region;
  int kv_head, first_head, part_heads, worker, workers;
  bool stores;  ///< the first part of a key head stores the new key and value

  [[nodiscard]] __device__ int padded_dim() const { return static_cast<int>(kv_head_stride(head_dim)); }
  [[nodiscard]] __device__ int64_t row() const { return int64_t{kv_heads} * padded_dim(); }
  [[nodiscard]] __device__ int key_slices() const { return position / kSliceKeys + 1; }
  [[nodiscard]] __device__ int chunks() const { return position / kStepChunk + 1; }
  [[nodiscard]] __device__ int dim_slices() const { return (head_dim + kSliceDims - 1) / kSliceDims; }
  /// Of a key in shared memory: one vector more than it has, so that 8 lanes meet all banks once.
  [[nodiscard]] __device__ int key_bytes() const { return padded_dim() * static_cast<int>(sizeof(T)) + 16; }
  [[nodiscard]] __device__ int key_slots() const {
    return min(kMostKeySlots, kAttentionRegion / (kSliceKeys * key_bytes())) / kTogether * kTogether;
  }
  /// Items are a unit's slices of dimensions: unit u, slice s is item u * dim_slices() + s; a unit is a chunk
  /// or a head. A division by up to four.
  [[nodiscard]] __device__ int unit_of(int item) const {
    const int slices = dim_slices();
    return slices == 4 ? item >> 2 : slices == 3 ? item / 3 : item >> (slices - 1);
  }
  [[nodiscard]] __device__ int dim_of(int item) const {
    return (item - unit_of(item) * dim_slices()) * kSliceDims;
  }
  /// Sums of a chunk: [part head][dimension], and then the maxima and the totals of the heads.
  [[nodiscard]] __device__ Pair* chunk_sums(int chunk) const {
    return sums + int64_t{chunk} * step_chunk_pairs(head_dim);
  }
};
template <class T>
constexpr int kValueBytes = kStepChunk* kSliceDims* static_cast<int>(sizeof(T));  ///< of one slice
template <class T>
constexpr int kValueSlots = kAttentionRegion / kValueBytes<T>;

/// The attention's threads count from 0.
__device__ __forceinline__ int attender() {
  return static_cast<int>(threadIdx.x) - kWorkers;
}

/// Starts copying `rows` rows of `vectors` 16-byte vectors; by all attenders.
__device__ __forceinline__ void stage_rows(std::byte* staging, int staging_bytes, const void* source,
                                           int64_t source_bytes, int rows, int vectors) {
  const int step_rows = kAttenders / vectors, step_vectors = kAttenders % vectors;
  int row = attender() / vectors, vector = attender() % vectors;
#pragma unroll 1
  while (row < rows) {
    copy_async(staging + row * staging_bytes + vector * 16,
               static_cast<const std::byte*>(source) + row * source_bytes + vector * 16, true);
    row += step_rows;
    vector += step_vectors;
    if (vector < vectors) continue;
    vector -= vectors;
    ++row;
  }
}

/// The older keys of a slice.
template <class T>
__device__ __forceinline__ void stage_keys(const StepAttention<T>& a, int slice, int slot) {
  const int first = slice * kSliceKeys, bytes = a.key_bytes();
  stage_rows(a.key_region + slot * kSliceKeys * bytes, bytes, a.keys + first * a.row(),
             a.row() * static_cast<int>(sizeof(T)), min(kSliceKeys, a.position - first), bytes / 16 - 1);
}

/// The older values of a chunk's slice of dimensions.
template <class T>
__device__ __forceinline__ void stage_values(const StepAttention<T>& a, int item, int slot) {
  constexpr int kBytes = kSliceDims * static_cast<int>(sizeof(T));
  const int first = a.unit_of(item) * kStepChunk, dim = a.dim_of(item);
  stage_rows(a.value_region + slot * kValueBytes<T>, kBytes, a.values + first * a.row() + dim,
             a.row() * static_cast<int>(sizeof(T)), min(kStepChunk, a.position - first),
             min(kSliceDims, a.padded_dim() - dim) * static_cast<int>(sizeof(T)) / 16);
}

/// What of the cache a block needs first, while others compute what comes before.
template <class T>
__device__ __forceinline__ void prefetch_cache(const StepAttention<T>& a) {
#pragma unroll 1
  for (int slot = 0; slot < a.key_slots(); ++slot) {
    const int slice = a.worker + slot * a.workers;
    if (slice < a.key_slices()) stage_keys(a, slice, slot);
  }
#pragma unroll 1
  for (int slot = 0; slot < kValueSlots<T>; ++slot) {
    const int item = a.worker + slot * a.workers;
    if (item < a.chunks() * a.dim_slices()) stage_values(a, item, slot);
  }
  commit_copies();
}

/// The part's rotated queries, and the new key as it is stored.
template <class T>
__device__ __forceinline__ void rotate_new(const StepAttention<T>& a, StepState& state) {
  constexpr int kTurns = kPartHeads * kStepHeadDim / 2 / kAttenders;  // of queries; one more for the key
  static_assert(kStepHeadDim / 2 <= kAttenders && kPartHeads == 4, "a thread rotates one pair of the key");
  const int thread = attender(), half = a.head_dim / 2;
  // Who scores the slice with the new position.
  const bool turns_key = thread < half && (a.key_slices() - 1) % a.workers == a.worker;
  const auto query_of = [&](int turn) { return thread + turn * kAttenders; };
  unsigned missing = turns_key ? 3u << 2 * kTurns : 0u;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn)
    missing |= query_of(turn) < a.part_heads * half ? 3u << 2 * turn : 0u;
  float low[kTurns + 1], high[kTurns + 1];
  await_pairs<2 * (kTurns + 1)>(
      missing, a.epoch,
      [&](int i) {
        const int turn = i / 2, in_key = (a.heads + a.kv_head) * a.head_dim + thread;
        // Of query j = h half + i: h head_dim + i = j + h half.
        const int j = query_of(turn), h = (j >= half) + (j >= 2 * half) + (j >= 3 * half);
        return a.qkv + (turn == kTurns ? in_key : a.first_head * a.head_dim + j + h * half) + i % 2 * half;
      },
      [&](int i, float value) { (i % 2 == 0 ? low : high)[i / 2] = value; });
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int j = query_of(turn), h = (j >= half) + (j >= 2 * half) + (j >= 3 * half), i = j - h * half;
    if (j >= a.part_heads * half) continue;
    const Rotated r = rotate(low[turn], high[turn], state.cos[i], state.sin[i]);
    state.queries[h][i] = r.a;
    state.queries[h][i + half] = r.b;
  }
  if (!turns_key) return;
  const Rotated r = rotate(low[kTurns], high[kTurns], state.cos[thread], state.sin[thread]);
  T* new_key = reinterpret_cast<T*>(state.new_key);
  new_key[thread] = from_float<T>(r.a);
  new_key[thread + half] = from_float<T>(r.b);
  if (!a.stores) return;
  T* stored = a.keys + a.position * a.row();
  stored[thread] = new_key[thread];
  stored[thread + half] = new_key[thread + half];
}

/// q * k in order of the dimensions, of kCount keys that are a lane's.
template <int kCount, class T>
__device__ __forceinline__ void score_of(const float* q, const T* const (&keys)[kTogether], int head_dim,
                                         float (&sums)[kTogether]) {
  constexpr int kVector = 16 / sizeof(T);
#pragma unroll
  for (int k = 0; k < kCount; ++k) sums[k] = 0;
  int d = 0;
#pragma unroll 4 / kCount
  for (; d + kVector <= head_dim; d += kVector) {
    uint4 packed[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) packed[k] = *reinterpret_cast<const uint4*>(keys[k] + d);
#pragma unroll
    for (int j = 0; j < kVector; j += 4) {
      const float4 four = *reinterpret_cast<const float4*>(q + d + j);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const T* elements = reinterpret_cast<const T*>(&packed[k]) + j;
        sums[k] = fmaf(four.x, to_float(elements[0]), sums[k]);
        sums[k] = fmaf(four.y, to_float(elements[1]), sums[k]);
        sums[k] = fmaf(four.z, to_float(elements[2]), sums[k]);
        sums[k] = fmaf(four.w, to_float(elements[3]), sums[k]);
      }
    }
  }
#pragma unroll 1
  for (; d < head_dim; ++d) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) sums[k] = fmaf(q[d], to_float(keys[k][d]), sums[k]);
  }
}

/// The block's scores.
template <class T>
__device__ __forceinline__ void score_keys(const StepAttention<T>& a, StepState& state) {
  const int h = attender() / kWarp, lane = attender() % kWarp, slots = a.key_slots();
  int slot = 0;
  commit_copies();  // a group for each turn; what was staged last may be for the turn after the next
  for (int slice = a.worker; slice < a.key_slices(); slice += kTogether * a.workers) {
    const T* keys[kTogether];
    int positions[kTogether];
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      positions[k] = (slice + k * a.workers) * kSliceKeys + lane;
      keys[k] = reinterpret_cast<const T*>(a.key_region + ((slot + k) * kSliceKeys + lane) * a.key_bytes());
      if (positions[k] == a.position) keys[k] = reinterpret_cast<const T*>(state.new_key);
    }
    if (slots > kTogether) {
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    sync_attenders();
    if (h < a.part_heads) {
      float scores[kTogether];
      if (slice + a.workers < a.key_slices()) {
        score_of<kTogether>(state.queries[h], keys, a.head_dim, scores);
      } else {
        score_of<1>(state.queries[h], keys, a.head_dim, scores);
      }
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        if (positions[k] <= a.position)
          publish(a.scores + int64_t{h} * a.context + positions[k], scores[k] * a.scale, a.epoch);
      }
    }
    if (slice + slots * a.workers < a.key_slices()) {
      sync_attenders();  // these slots' keys have been read
#pragma unroll 1
      for (int k = 0; k < kTogether; ++k) {
        const int later = slice + (slots + k) * a.workers;
        if (later < a.key_slices()) stage_keys(a, later, slot + k);
      }
    }
    commit_copies();
    slot += kTogether;
    if (slot == slots) slot = 0;
  }
}

#endif

}  // namespace bitnet::cuda
