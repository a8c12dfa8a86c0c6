#pragma once

// Attention of the persistent decode kernel, in two exchanges: the scores of 32 keys for up to four heads of
// a key head, by four warps, one for each head; and eight dimensions of the values over all chunks, a warp
// for each chunk. The arithmetic is that of decode_attention.cu.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/step.cuh"

namespace bitnet::cuda {

#if __CUDA_ARCH__ >= 900

constexpr int kStepChunk = kernels::kAttentionChunk;
constexpr int kPairSeries = kStepChunk / kWarp;  // a lane's positions of a chunk

/// One layer's attention as all blocks see it.
template <class T>
struct StepAttention {
  const Pair* qkv;
  Pair *scores, *out;
  uint32_t epoch;
  T *keys, *values;  ///< of this layer
  int position, context, heads, kv_heads, head_dim;
  float scale;
  std::byte *key_region, *value_region;

  [[nodiscard]] __device__ int group() const { return heads / kv_heads; }
  [[nodiscard]] __device__ int parts() const { return (group() + kPartHeads - 1) / kPartHeads; }
  [[nodiscard]] __device__ int padded_dim() const { return static_cast<int>(kv_head_stride(head_dim)); }
  [[nodiscard]] __device__ int64_t row() const { return int64_t{kv_heads} * padded_dim(); }
  /// Of a key in shared memory: one vector more than it has, so that 8 lanes meet all banks once.
  [[nodiscard]] __device__ int key_bytes() const { return padded_dim() * static_cast<int>(sizeof(T)) + 16; }
  [[nodiscard]] __device__ int key_slots() const {
    return min(kMostKeySlots, kAttentionRegion / (kSliceKeys * key_bytes()));
  }
  [[nodiscard]] __device__ int chunk_warps() const {
    return min(kAttendWarps, kAttentionRegion / (kStepChunk * kSliceDims * static_cast<int>(sizeof(T))));
  }
  [[nodiscard]] __device__ int score_items() const {
    return kv_heads * parts() * ((position + kSliceKeys) / kSliceKeys);
  }
  [[nodiscard]] __device__ int value_items() const {
    return kv_heads * parts() * ((head_dim + kSliceDims - 1) / kSliceDims);
  }
};

/// The attention's threads count from 0.
__device__ __forceinline__ int attender() {
  return static_cast<int>(threadIdx.x) - kWorkers;
}

/// A part of a key head's query heads.
struct HeadPart {
  int kv_head, first_head, heads, index;
};
template <class T>
__device__ __forceinline__ HeadPart part_of(const StepAttention<T>& a, int index) {
  const int kv_head = index / a.parts(), part = index % a.parts();
  return {kv_head, kv_head * a.group() + part * kPartHeads, min(kPartHeads, a.group() - part * kPartHeads),
          index};
}

/// Starts copying the older keys of a score item; by all.
template <class T>
__device__ __forceinline__ void stage_keys(const StepAttention<T>& a, int item, int slot) {
  const HeadPart part = part_of(a, item % (a.kv_heads * a.parts()));
  const int first = item / (a.kv_heads * a.parts()) * kSliceKeys;
  const int vectors = a.padded_dim() * static_cast<int>(sizeof(T)) / 16;
  std::byte* staging = a.key_region + slot * kSliceKeys * a.key_bytes();
  for (int i = attender(); i < kSliceKeys * vectors; i += kAttenders) {
    const int key = i / vectors, vector = i % vectors;
    if (first + key >= a.position) continue;
    const T* row = a.keys + (first + key) * a.row() + int64_t{part.kv_head} * a.padded_dim();
    copy_async(staging + key * a.key_bytes() + vector * 16,
               reinterpret_cast<const std::byte*>(row) + vector * 16, true);
  }
}

/// Starts copying the older values of a chunk's eight dimensions; by one warp.
template <class T>
__device__ __forceinline__ void stage_values(const StepAttention<T>& a, int item, int chunk, int warp) {
  const int slices = (a.head_dim + kSliceDims - 1) / kSliceDims;
  const HeadPart part = part_of(a, item / slices);
  constexpr int kVectors = kSliceDims * static_cast<int>(sizeof(T)) / 16;
  const int stored = min(a.position - chunk * kStepChunk, kStepChunk);
  const T* first = a.values + int64_t{chunk} * kStepChunk * a.row() + int64_t{part.kv_head} * a.padded_dim() +
                   item % slices * kSliceDims;
  std::byte* staging = a.value_region + warp * kStepChunk * kSliceDims * static_cast<int>(sizeof(T));
  for (int i = threadIdx.x % kWarp; i < stored * kVectors; i += kWarp) {
    const auto* row = reinterpret_cast<const std::byte*>(first + i / kVectors * a.row());
    copy_async(staging + i * 16, row + i % kVectors * 16, true);
  }
}

/// What of the cache a block needs first, while others compute what comes before.
template <class T>
__device__ __forceinline__ void prefetch_cache(const StepAttention<T>& a) {
  const int warp = attender() / kWarp, value_item = static_cast<int>(blockIdx.x);
  for (int slot = 0; slot < a.key_slots(); ++slot) {
    const int score_item = static_cast<int>(blockIdx.x + slot * gridDim.x);
    if (score_item < a.score_items()) stage_keys(a, score_item, slot);
  }
  if (warp < min(a.chunk_warps(), a.position / kStepChunk + 1) && value_item < a.value_items())
    stage_values(a, value_item, warp, warp);
  commit_copies();
}

/// Elements i and i + half of a head, of which the lane wants all or nothing.
struct Halves {
  const Pair* place = nullptr;  ///< null: nothing
  Pair low{}, high{};

  __device__ __forceinline__ void ask(int half, uint32_t epoch) {
    if (there(epoch)) return;
    low = load_pair(place);
    high = load_pair(place + half);
  }
  [[nodiscard]] __device__ __forceinline__ bool there(uint32_t epoch) const {
    return place == nullptr || (low.epoch == epoch && high.epoch == epoch);
  }
  [[nodiscard]] __device__ __forceinline__ Rotated rotated(float cos, float sin) const {
    return rotate(low.value, high.value, cos, sin);
  }
};

/// The part's rotated queries, and in the slice with the new position its rotated key.
template <class T>
__device__ __forceinline__ void rotate_new(const StepAttention<T>& a, const HeadPart& part, int first_key,
                                           int slot, StepState& state) {
  constexpr int kThreads = kAttenders, kTurns = kPartHeads * kStepHeadDim / 2 / kThreads;
  static_assert(kStepHeadDim / 2 <= kThreads, "a thread rotates one pair of the key");
  const int thread = attender(), half = a.head_dim / 2;
  const bool turns_key = thread < half && a.position < first_key + kSliceKeys;
  Halves halves[kTurns + 1];  // of the queries, and of the key
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int j = thread + turn * kThreads;
    if (j < part.heads * half)
      halves[turn].place = a.qkv + (part.first_head + j / half) * a.head_dim + j % half;
  }
  Halves& k = halves[kTurns];
  if (turns_key) k.place = a.qkv + (a.heads + part.kv_head) * a.head_dim + thread;
  const auto ask = [&] {
    bool there = true;
#pragma unroll
    for (Halves& h : halves) h.ask(half, a.epoch);
#pragma unroll
    for (const Halves& h : halves) there = there && h.there(a.epoch);
    return there;
  };
  await_all(ask, [&] {
    const Pair* place = nullptr;
#pragma unroll
    for (const Halves& h : halves) {
      if (!h.there(a.epoch)) place = h.low.epoch == a.epoch ? h.place + half : h.place;
    }
    await_pair(place, a.epoch);
  });
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int j = thread + turn * kThreads;
    if (j >= part.heads * half) continue;
    const int i = j % half;
    const Rotated r = halves[turn].rotated(state.cos[i], state.sin[i]);
    state.queries[j / half][i] = r.a;
    state.queries[j / half][i + half] = r.b;
  }
  if (!turns_key) return;
  T* staged =
      reinterpret_cast<T*>(a.key_region + (slot * kSliceKeys + a.position - first_key) * a.key_bytes());
  T* stored = a.keys + a.position * a.row() + int64_t{part.kv_head} * a.padded_dim();
  const Rotated r = k.rotated(state.cos[thread], state.sin[thread]);
  staged[thread] = from_float<T>(r.a);
  staged[thread + half] = from_float<T>(r.b);
  if (part.first_head != part.kv_head * a.group()) return;  // the first part stores
  stored[thread] = staged[thread];
  stored[thread + half] = staged[thread + half];
}

/// q * k in order of the dimensions; a key is a lane's.
template <class T>
__device__ __forceinline__ float score_of(const float* q, const T* key, int head_dim) {
  constexpr int kVector = 16 / sizeof(T);
  float sum = 0;
  int d = 0;
#pragma unroll 8
  for (; d + kVector <= head_dim; d += kVector) {
    const uint4 packed = *reinterpret_cast<const uint4*>(key + d);
    const T* elements = reinterpret_cast<const T*>(&packed);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum = fmaf(q[d + j], to_float(elements[j]), sum);
  }
  for (; d < head_dim; ++d) sum = fmaf(q[d], to_float(key[d]), sum);
  return sum;
}

/// The block's score items.
template <class T>
__device__ __forceinline__ void score_keys(const StepAttention<T>& a, StepState& state) {
  const int h = attender() / kWarp, lane = attender() % kWarp, per_slice = a.kv_heads * a.parts();
  const int slots = a.key_slots();
  int slot = 0;
  for (int item = static_cast<int>(blockIdx.x); item < a.score_items(); item += static_cast<int>(gridDim.x)) {
    const HeadPart part = part_of(a, item % per_slice);
    const int first_key = item / per_slice * kSliceKeys;
    rotate_new(a, part, first_key, slot, state);
    wait_copies<0>();
    sync_attenders();
    if (h < part.heads && first_key + lane <= a.position) {
      const T* key = reinterpret_cast<const T*>(a.key_region + (slot * kSliceKeys + lane) * a.key_bytes());
      const float score = score_of(state.queries[h], key, a.head_dim) * a.scale;
      publish(a.scores + int64_t{part.index * kPartHeads + h} * a.context + first_key + lane, score, a.epoch);
    }
    sync_attenders();  // keys and queries have been read
    const int later = item + slots * static_cast<int>(gridDim.x);
    if (later < a.score_items()) stage_keys(a, later, slot);
    commit_copies();
    if (++slot == slots) slot = 0;
  }
}

/// A chunk's scores for the heads of a part to w; -inf beyond the last.
template <class T>
__device__ __forceinline__ void await_scores(const StepAttention<T>& a, const HeadPart& part, int chunk,
                                             float* w) {
  const int lane = threadIdx.x % kWarp, length = min(a.position + 1 - chunk * kStepChunk, kStepChunk);
  const Pair* scores = a.scores + int64_t{part.index} * kPartHeads * a.context + chunk * kStepChunk + lane;
  unsigned missing = 0;  // bit 8 h + i
#pragma unroll
  for (int h = 0; h < kPartHeads; ++h) {
#pragma unroll
    for (int i = 0; i < kPairSeries; ++i) {
      if (h < part.heads && lane + i * kWarp < length) {
        missing |= 1u << (h * kPairSeries + i);
      } else {
        w[h * kWeightStride + lane + i * kWarp] = -INFINITY;
      }
    }
  }
  const auto ask = [&] {
    Pair pairs[kPartHeads][kPairSeries];
#pragma unroll
    for (int h = 0; h < kPartHeads; ++h) {
#pragma unroll
      for (int i = 0; i < kPairSeries; ++i) {
        if (missing >> (h * kPairSeries + i) & 1u)
          pairs[h][i] = load_pair(scores + h * a.context + i * kWarp);
      }
    }
#pragma unroll
    for (int h = 0; h < kPartHeads; ++h) {
#pragma unroll
      for (int i = 0; i < kPairSeries; ++i) {
        const unsigned bit = 1u << (h * kPairSeries + i);
        if ((missing & bit) == 0 || pairs[h][i].epoch != a.epoch) continue;
        w[h * kWeightStride + lane + i * kWarp] = pairs[h][i].value;
        missing &= ~bit;
      }
    }
    return missing == 0;
  };
  await_all(ask, [&] {
    const int first = __ffs(static_cast<int>(missing)) - 1;
    await_pair(scores + first / kPairSeries * a.context + first % kPairSeries * kWarp, a.epoch);
  });
}

/// A head's scores become weights e^(score - maximum); their sum is in the order of sixteen lanes.
struct ChunkSums {
  float maximum, total;
};
__device__ __forceinline__ ChunkSums soften_chunk(float* w) {
  const int lane = threadIdx.x % kWarp;
  float score[kPairSeries], maximum = -INFINITY, total = 0;
#pragma unroll
  for (int i = 0; i < kPairSeries; ++i) {
    score[i] = w[lane + i * kWarp];
    maximum = fmaxf(maximum, score[i]);
  }
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2)
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, mask));
#pragma unroll
  for (int i = 0; i < kPairSeries; ++i) {
    const float weight = exp_exact(score[i] - maximum);
    w[lane + i * kWarp] = weight;
    // Lane l % 16 adds the weights of positions l % 16, l % 16 + 16, ...: its own and its neighbour's in
    // turn.
    const float other = __shfl_xor_sync(0xffffffffu, weight, 16);
    total += lane < 16 ? weight : other;
    total += lane < 16 ? other : weight;
  }
#pragma unroll
  for (int mask = 8; mask > 0; mask /= 2) total += __shfl_xor_sync(0xffffffffu, total, mask);
  return {maximum, total};
}

/// Lane (h, d): the weighted sum of dimension d of the staged values, in order of position.
template <class T>
__device__ __forceinline__ float weighted_sum(const float* w, const T* values, int length) {
  const float* my_w = w + threadIdx.x % kWarp / kSliceDims * kWeightStride;
  const T* my_values = values + threadIdx.x % kSliceDims;
  float o = 0;
  int p = 0;
#pragma unroll 4
  for (; p + 4 <= length; p += 4) {
    const float4 four = *reinterpret_cast<const float4*>(my_w + p);
    o = fmaf(four.x, to_float(my_values[p * kSliceDims]), o);
    o = fmaf(four.y, to_float(my_values[(p + 1) * kSliceDims]), o);
    o = fmaf(four.z, to_float(my_values[(p + 2) * kSliceDims]), o);
    o = fmaf(four.w, to_float(my_values[(p + 3) * kSliceDims]), o);
  }
  for (; p < length; ++p) o = fmaf(my_w[p], to_float(my_values[p * kSliceDims]), o);
  return o;
}

/// The chunks joined so far (attention_merge); lane (h, d).
struct Joined {
  float maximum = 0, total = 0, out = 0;

  __device__ __forceinline__ void join(bool first, float part_maximum, float part_total, float part_out) {
    if (first) {
      maximum = part_maximum, total = part_total, out = part_out;
      return;
    }
    const float highest = maximum > part_maximum ? maximum : part_maximum;
    const float a = exp_exact(maximum - highest), b = exp_exact(part_maximum - highest);
    total = fmaf(total, a, __fmul_rn(part_total, b));
    out = fmaf(out, a, __fmul_rn(part_out, b));
    maximum = highest;
  }
};

/// A warp's chunk of a value item, to state.part_*.
template <class T>
__device__ __forceinline__ void sum_chunk(const StepAttention<T>& a, const HeadPart& part, int first_dim,
                                          int chunk, int warp, StepState& state) {
  const int lane = attender() % kWarp, in_chunk = a.position - chunk * kStepChunk;
  auto* w = reinterpret_cast<float*>(a.key_region) + warp * kPartHeads * kWeightStride;
  T* values = reinterpret_cast<T*>(a.value_region) + warp * kStepChunk * kSliceDims;
  await_scores(a, part, chunk, w);
  if (in_chunk < kStepChunk && lane < kSliceDims && first_dim + lane < a.head_dim) {
    const Pair* v = a.qkv + (a.heads + a.kv_heads + part.kv_head) * a.head_dim + first_dim + lane;
    Pair pair = load_pair(v);  // it came with the queries
    while (pair.epoch != a.epoch) pair = load_pair(v);
    const T value = from_float<T>(pair.value);
    values[in_chunk * kSliceDims + lane] = value;
    if (part.first_head == part.kv_head * a.group())
      a.values[a.position * a.row() + int64_t{part.kv_head} * a.padded_dim() + first_dim + lane] = value;
  }
#pragma unroll 2
  for (int h = 0; h < part.heads; ++h) {
    const ChunkSums sums = soften_chunk(w + h * kWeightStride);  // of its own elements: no lane waits
    if (lane != 0) continue;
    state.part_maximum[warp][h] = sums.maximum;
    state.part_total[warp][h] = sums.total;
  }
  wait_copies<0>();
  __syncwarp();
  state.part_out[warp][lane] = weighted_sum(w, values, min(in_chunk + 1, kStepChunk));
}

/// The block's value items: a warp for each chunk, `chunk_warps` at a time; the first warp joins them in
/// order.
template <class T>
__device__ __forceinline__ void sum_values(const StepAttention<T>& a, StepState& state) {
  const int warp = attender() / kWarp, lane = attender() % kWarp;
  const int slices = (a.head_dim + kSliceDims - 1) / kSliceDims, chunks = a.position / kStepChunk + 1;
  const int together = a.chunk_warps();
  bool staged = true;
  for (int item = static_cast<int>(blockIdx.x); item < a.value_items(); item += static_cast<int>(gridDim.x)) {
    const HeadPart part = part_of(a, item / slices);
    const int first_dim = item % slices * kSliceDims;
    Joined joined;
    for (int first = 0; first < chunks; first += together) {
      const int chunk = first + warp;
      if (warp < together && chunk < chunks) {
        if (!staged) {
          stage_values(a, item, chunk, warp);
          commit_copies();
        }
        sum_chunk(a, part, first_dim, chunk, warp, state);
      }
      staged = false;
      sync_attenders();
      if (warp == 0) {
        const int h = lane / kSliceDims;
        for (int c = 0; c < min(together, chunks - first); ++c)
          joined.join(first + c == 0, state.part_maximum[c][h], state.part_total[c][h],
                      state.part_out[c][lane]);
      }
      if (first + together < chunks || item + static_cast<int>(gridDim.x) < a.value_items()) sync_attenders();
    }
    const int h = lane / kSliceDims, d = first_dim + lane % kSliceDims;
    if (warp == 0 && h < part.heads && d < a.head_dim) {
      publish(a.out + (part.first_head + h) * a.head_dim + d, joined.out * __fdiv_rn(1.0f, joined.total),
              a.epoch);
    }
  }
}

#endif

}  // namespace bitnet::cuda
