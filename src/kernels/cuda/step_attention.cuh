#pragma once

// Attention of the persistent decode kernel. A block works for one part, up to four query heads of a key
// head, together with the other blocks of that part, in three exchanges: scores of slices of 32 keys; and
// then (step_values.cuh) weighted sums over the values of a chunk; and where there are several chunks, their
// join. A block sums 32 dimensions of a chunk as long as there are blocks enough for that, and else whole
// chunks. The arithmetic is that of decode_attention.cu.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/step.cuh"

#include <type_traits>

namespace bitnet::cuda {

#if __CUDA_ARCH__ >= 900

constexpr int kStepChunk = kernels::kAttentionChunk;
constexpr int kPairSeries = kStepChunk / kWarp;  // a lane's positions of a chunk

/// Of a key in shared memory: one vector more than it has, so that 8 lanes meet all banks once.
template <class T>
__device__ __forceinline__ int key_bytes(int head_dim) {
  return static_cast<int>(kv_head_stride(head_dim) * sizeof(T)) + 16;
}
/// Of the values of 32 dimensions of a chunk.
template <class T>
constexpr int kSliceBytes = kStepChunk* kSliceDims* static_cast<int>(sizeof(T));
/// Where whole chunks are summed: what is staged at once of the values, which leaves room for weights; and
/// what the keys leave room for at least.
constexpr int kBatchBytes = 64 * 1024, kEarlyBytes = 16 * 1024;
static_assert(kBatchBytes + kPartHeads * kStepChunk * sizeof(float) <= kAttentionBytes);
template <class T>
constexpr int kBatchRows = kBatchBytes / kStepHeadDim / static_cast<int>(sizeof(T));

template <class T>
constexpr bool kIsI8 = std::is_same_v<T, int8_t>;
/// Beside an i8 cache's keys (before it) and values (behind it) in the region: scales of what is staged, and
/// the weights of a chunk in two digits, four positions a word.
struct I8Region {
  float key_scales[kMostKeySlots * kSliceKeys], value_scales[kStepChunk];
  alignas(16) uint32_t high[kPartHeads][kStepChunk / 4], low[kPartHeads][kStepChunk / 4];
};
constexpr int kI8KeyBytes = 32 * 1024, kI8ValueBytes = kStepChunk * kStepHeadDim;
static_assert(kI8KeyBytes + sizeof(I8Region) + kI8ValueBytes <= kAttentionBytes);

/// One layer's attention as this block sees it: it is `worker` of its part's `workers`.
template <class T>
struct StepAttention {
  const Pair* qkv;
  Pair *scores, *sums, *out;  ///< scores and sums: of the part
  uint32_t epoch;
  T *keys, *values;                  ///< of this layer and key head
  float *key_scales, *value_scales;  ///< the same of an i8 cache
  int position, context, heads, kv_heads, head_dim;
  float scale;
  std::byte* region;  ///< kAttentionBytes of shared memory: keys, later weights; values at its end
  int kv_head, first_head, part_heads, worker, workers;
  int key_slots;  ///< slices of keys that are staged at once
  bool stores;    ///< the first part of a key head stores the new key and value

  [[nodiscard]] __device__ int padded_dim() const { return static_cast<int>(kv_head_stride(head_dim)); }
  [[nodiscard]] __device__ int64_t row() const { return int64_t{kv_heads} * padded_dim(); }
  [[nodiscard]] __device__ int key_slices() const { return position / kSliceKeys + 1; }
  [[nodiscard]] __device__ int chunks() const { return position / kStepChunk + 1; }
  [[nodiscard]] __device__ int dim_slices() const { return (head_dim + kSliceDims - 1) / kSliceDims; }
  /// A block sums whole chunks, not slices of their dimensions.
  [[nodiscard]] __device__ bool whole_chunks() const { return chunks() * dim_slices() > workers; }
  [[nodiscard]] __device__ int most_key_slots() const {
    const int room =
        kIsI8<T> ? kI8KeyBytes : kAttentionBytes - (whole_chunks() ? kEarlyBytes : kSliceBytes<T>);
    const int slots = min(kMostKeySlots, room / (kSliceKeys * key_bytes<T>(head_dim)));
    return min(slots, ceil_div(key_slices(), workers));
  }
  /// Of the first chunk's values: staged where keys have been.
  [[nodiscard]] __device__ int late_rows() const {
    constexpr int kRowBytes = kStepHeadDim * static_cast<int>(sizeof(T)),
                  kFirst = kAttentionBytes - kBatchBytes;
    return max(0, ceil_div(key_slots * kSliceKeys * key_bytes<T>(head_dim) - kFirst, kRowBytes));
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
  [[nodiscard]] __device__ I8Region& i8() const { return *reinterpret_cast<I8Region*>(region + kI8KeyBytes); }
  /// Sums of a chunk: [part head][dimension], and then the maxima and the totals of the heads.
  [[nodiscard]] __device__ Pair* chunk_sums(int chunk) const {
    return sums + int64_t{chunk} * step_chunk_pairs(head_dim);
  }
};
/// The attention's threads count from 0.
__device__ __forceinline__ int attender() {
  return static_cast<int>(threadIdx.x) - kWorkers;
}

/// Starts copying `rows` rows of `vectors` 16-byte vectors; by all attenders but those that a last row would
/// have to share with the next turn.
__device__ __forceinline__ void stage_rows(std::byte* staging, int staging_bytes, const void* source,
                                           int64_t source_bytes, int rows, int vectors) {
  const int step = kAttenders / vectors, first = attender() / vectors, vector = attender() - first * vectors;
  if (first >= step) return;
  std::byte* to = staging + first * staging_bytes + vector * 16;
  const std::byte* from = static_cast<const std::byte*>(source) + first * source_bytes + vector * 16;
#pragma unroll 4
  for (int row = first; row < rows; row += step) {
    copy_async(to, from, true);
    to += step * staging_bytes;
    from += step * source_bytes;
  }
}

/// The older keys of a slice.
template <class T>
__device__ __forceinline__ void stage_keys(const StepAttention<T>& a, int slice, int slot) {
  const int first = slice * kSliceKeys, bytes = key_bytes<T>(a.head_dim);
  stage_rows(a.region + slot * kSliceKeys * bytes, bytes, a.keys + first * a.row(),
             a.row() * static_cast<int>(sizeof(T)), min(kSliceKeys, a.position - first), bytes / 16 - 1);
}

/// The block's slices of keys from the one on, as many as there is room for.
template <class T>
__device__ __forceinline__ void stage_key_slots(const StepAttention<T>& a, int slice) {
  if constexpr (kIsI8<T>) {
    for (int i = attender(); i < a.key_slots * kSliceKeys; i += kAttenders) {
      const int position = (slice + i / kSliceKeys * a.workers) * kSliceKeys + i % kSliceKeys;
      if (position < a.position) a.i8().key_scales[i] = a.key_scales[position];
    }
  }
#pragma unroll 1
  for (int slot = 0; slot < a.key_slots && slice < a.key_slices(); ++slot, slice += a.workers)
    stage_keys(a, slice, slot);
}

/// Where the values of 32 dimensions of a chunk are staged, and those of a batch.
template <class T>
__device__ __forceinline__ std::byte* slice_place(const StepAttention<T>& a) {
  return a.region + kAttentionBytes - kSliceBytes<T>;
}
template <class T>
__device__ __forceinline__ std::byte* batch_place(const StepAttention<T>& a) {
  return a.region + kAttentionBytes - kBatchBytes;
}

/// The older values of the block's slice of dimensions.
template <class T>
__device__ __forceinline__ void stage_slice(const StepAttention<T>& a) {
  constexpr int kBytes = kSliceDims * static_cast<int>(sizeof(T));
  const int first = a.unit_of(a.worker) * kStepChunk, dim = a.dim_of(a.worker);
  stage_rows(slice_place(a), kBytes, a.values + first * a.row() + dim, a.row() * static_cast<int>(sizeof(T)),
             min(kStepChunk, a.position - first),
             min(kSliceDims, a.padded_dim() - dim) * static_cast<int>(sizeof(T)) / 16);
}

/// The older ones of the values [begin, end) of the batch that starts at position `first`.
template <class T>
__device__ __forceinline__ void stage_batch(const StepAttention<T>& a, int first, int begin, int end) {
  constexpr int kBytes = kStepHeadDim * static_cast<int>(sizeof(T));
  stage_rows(batch_place(a) + begin * kBytes, kBytes, a.values + (first + begin) * a.row(),
             a.row() * static_cast<int>(sizeof(T)), min(end, a.position - first) - begin,
             a.padded_dim() * static_cast<int>(sizeof(T)) / 16);
}

/// Asks for the older ones of `count` rows from position `first` on to come to the L2 cache.
template <class T>
__device__ __forceinline__ void prefetch_rows(const StepAttention<T>& a, const T* rows, int first,
                                              int count) {
  constexpr int kLine = 128 / sizeof(T);
  const int end = min(first + count, a.position);
#pragma unroll 1
  for (int p = first + attender(); p < end; p += kAttenders) {
    for (int d = 0; d < a.head_dim; d += kLine) prefetch(rows + p * a.row() + d);
  }
}

/// What of the cache a block needs, while others compute what comes before: what there is room for comes to
/// shared memory, and near what follows.
template <class T>
__device__ __forceinline__ void prefetch_cache(const StepAttention<T>& a) {
  stage_key_slots(a, a.worker);
  if (!a.whole_chunks()) {
    if (a.worker < a.chunks() * a.dim_slices()) stage_slice(a);
  } else if (a.worker < a.chunks()) {
    stage_batch(a, a.worker * kStepChunk, a.late_rows(), kBatchRows<T>);
  }
  commit_copies();
  if (!a.whole_chunks()) return;
#pragma unroll 1
  for (int slot = a.key_slots; slot < 2 * a.key_slots; ++slot)
    prefetch_rows(a, a.keys, (a.worker + slot * a.workers) * kSliceKeys, kSliceKeys);
  prefetch_rows(a, a.values, a.worker * kStepChunk, a.late_rows());
  prefetch_rows(a, a.values, a.worker * kStepChunk + kBatchRows<T>, kStepChunk - kBatchRows<T>);
}

/// The part's rotated queries, and the new key; which is stored, but to an i8 cache (step_i8.cuh).
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
  if constexpr (kIsI8<T>) {
    state.new_key[thread] = r.a;
    state.new_key[thread + half] = r.b;
  } else {
    T* new_key = reinterpret_cast<T*>(state.new_key);
    new_key[thread] = from_float<T>(r.a);
    new_key[thread + half] = from_float<T>(r.b);
    if (!a.stores) return;
    T* stored = a.keys + a.position * a.row();
    stored[thread] = new_key[thread];
    stored[thread + half] = new_key[thread + half];
  }
}

/// q * k in order of the dimensions, of kKeys keys that are a lane's and of kHeads queries: so many chains of
/// fma hide each other's latency.
template <int kKeys, int kHeads, class T>
__device__ __forceinline__ void score_of(const float (*queries)[kStepHeadDim], const T* const (&keys)[kKeys],
                                         int head_dim, float (&sums)[kKeys][kHeads]) {
  constexpr int kVector = 16 / sizeof(T);
#pragma unroll
  for (int k = 0; k < kKeys; ++k) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) sums[k][h] = 0;
  }
  int d = 0;
#pragma unroll kKeys* kHeads == 1 ? 4 : 2
  for (; d + kVector <= head_dim; d += kVector) {
    uint4 packed[kKeys];
#pragma unroll
    for (int k = 0; k < kKeys; ++k) packed[k] = *reinterpret_cast<const uint4*>(keys[k] + d);
#pragma unroll
    for (int j = 0; j < kVector; j += 4) {
      float4 q[kHeads];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) q[h] = *reinterpret_cast<const float4*>(queries[h] + d + j);
#pragma unroll
      for (int k = 0; k < kKeys; ++k) {
        const T* elements = reinterpret_cast<const T*>(&packed[k]) + j;
        const float key[4] = {to_float(elements[0]), to_float(elements[1]), to_float(elements[2]),
                              to_float(elements[3])};
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
          sums[k][h] = fmaf(q[h].x, key[0], sums[k][h]);
          sums[k][h] = fmaf(q[h].y, key[1], sums[k][h]);
          sums[k][h] = fmaf(q[h].z, key[2], sums[k][h]);
          sums[k][h] = fmaf(q[h].w, key[3], sums[k][h]);
        }
      }
    }
  }
#pragma unroll 1
  for (; d < head_dim; ++d) {
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
#pragma unroll
      for (int h = 0; h < kHeads; ++h) sums[k][h] = fmaf(queries[h][d], to_float(keys[k][d]), sums[k][h]);
    }
  }
}

/// The same of an i8 cache, exact.
template <int kKeys, int kHeads>
__device__ __forceinline__ void dot_of(const uint32_t (*queries)[kStepHeadDim / 4],
                                       const int8_t* const (&keys)[kKeys], int head_dim,
                                       int (&sums)[kKeys][kHeads]) {
#pragma unroll 2
  for (int d = 0; d < head_dim; d += 16) {
    int4 q[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) q[h] = *reinterpret_cast<const int4*>(queries[h] + d / 4);
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
      const int4 key = *reinterpret_cast<const int4*>(keys[k] + d);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const int first = __dp4a(key.y, q[h].y, __dp4a(key.x, q[h].x, sums[k][h]));
        sums[k][h] = __dp4a(key.w, q[h].w, __dp4a(key.z, q[h].z, first));
      }
    }
  }
}

/// A warp's part of the slices in slots [0, count), of which the first is `slice`: of heads [first_head,
/// first_head + kHeads), slots first_slot, first_slot + 2, ...
template <int kKeys, int kHeads, class T>
__device__ __forceinline__ void score_slots(const StepAttention<T>& a, const StepState& state, int slice,
                                            int count, int first_head, int first_slot) {
  if (first_head >= a.part_heads) return;
  const int lane = attender() % kWarp, bytes = key_bytes<T>(a.head_dim);
  const T* keys[kKeys];
  int positions[kKeys];
#pragma unroll
  for (int k = 0; k < kKeys; ++k) {
    const int slot = first_slot + 2 * k;
    positions[k] = slot < count ? (slice + slot * a.workers) * kSliceKeys + lane : a.position + 1;
    keys[k] = reinterpret_cast<const T*>(a.region + (min(slot, count - 1) * kSliceKeys + lane) * bytes);
    if (positions[k] == a.position) {
      keys[k] =
          kIsI8<T> ? reinterpret_cast<const T*>(state.i8.new_key) : reinterpret_cast<const T*>(state.new_key);
    }
  }
  float scores[kKeys][kHeads];
  if constexpr (kIsI8<T>) {
    int sums[kKeys][kHeads] = {};
    dot_of<kKeys, kHeads>(state.i8.queries + first_head, keys, a.head_dim, sums);
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
      const int slot = min(first_slot + 2 * k, count - 1);
      const bool is_new = positions[k] == a.position;
      const float key_scale = is_new ? state.i8.new_key_scale : a.i8().key_scales[slot * kSliceKeys + lane];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float factor = __fmul_rn(key_scale, __fmul_rn(state.i8.query_scales[first_head + h], a.scale));
        scores[k][h] = __fmul_rn(static_cast<float>(sums[k][h]), factor);
      }
    }
  } else {
    score_of<kKeys, kHeads>(state.queries + first_head, keys, a.head_dim, scores);
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
#pragma unroll
      for (int h = 0; h < kHeads; ++h) scores[k][h] *= a.scale;
    }
  }
#pragma unroll
  for (int k = 0; k < kKeys; ++k) {
    if (positions[k] > a.position) continue;
    Pair* const place = a.scores + int64_t{first_head} * a.context + positions[k];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (first_head + h < a.part_heads) publish(place + h * a.context, scores[k][h], a.epoch);
    }
  }
}

/// The block's scores: of one slice a warp has one head, of several two heads and every other slice.
template <class T>
__device__ __forceinline__ void score_keys(const StepAttention<T>& a, const StepState& state) {
  const int warp = attender() / kWarp, pair = warp % 2 * 2, slot = warp / 2;
  int slice = a.worker;
#pragma unroll 1
  while (slice < a.key_slices()) {
    int count = 1, next = slice + a.workers;
    for (; count < a.key_slots && next < a.key_slices(); next += a.workers) ++count;
    wait_copies<0>();
    sync_attenders();
    if (count == 1) {
      score_slots<1, 1>(a, state, slice, count, warp, 0);
    } else if (count == 2) {
      score_slots<1, 2>(a, state, slice, count, pair, slot);
    } else if (count <= 4) {
      score_slots<2, 2>(a, state, slice, count, pair, slot);
    } else {
      score_slots<3, 2>(a, state, slice, count, pair, slot);
    }
    slice = next;
    if (slice >= a.key_slices()) return;
    sync_attenders();  // the slots' keys have been read
    stage_key_slots(a, slice);
    commit_copies();
  }
}

#endif

}  // namespace bitnet::cuda
