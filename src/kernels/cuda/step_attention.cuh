#pragma once

// Attention of the persistent decode kernel. A block works for one part, up to four query heads of a key
// head, together with the other blocks of that part, in three exchanges: scores of 32 keys, a warp for each
// head; sums over the values of 32 dimensions of a chunk, a warp for eight; and where there are several
// chunks, their join. The arithmetic is that of decode_attention.cu.

#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/step.cuh"

namespace bitnet::cuda {

#if __CUDA_ARCH__ >= 900

constexpr int kStepChunk = kernels::kAttentionChunk;
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
    return min(kMostKeySlots, kAttentionRegion / (kSliceKeys * key_bytes()));
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

/// q * k in order of the dimensions; a key is a lane's.
template <class T>
__device__ __forceinline__ float score_of(const float* q, const T* key, int head_dim) {
  constexpr int kVector = 16 / sizeof(T);
  float sum = 0;
  int d = 0;
#pragma unroll 4
  for (; d + kVector <= head_dim; d += kVector) {
    const uint4 packed = *reinterpret_cast<const uint4*>(key + d);
    const T* elements = reinterpret_cast<const T*>(&packed);
#pragma unroll
    for (int j = 0; j < kVector; j += 4) {
      const float4 four = *reinterpret_cast<const float4*>(q + d + j);
      sum = fmaf(four.x, to_float(elements[j]), sum);
      sum = fmaf(four.y, to_float(elements[j + 1]), sum);
      sum = fmaf(four.z, to_float(elements[j + 2]), sum);
      sum = fmaf(four.w, to_float(elements[j + 3]), sum);
    }
  }
  for (; d < head_dim; ++d) sum = fmaf(q[d], to_float(key[d]), sum);
  return sum;
}

/// The block's scores.
template <class T>
__device__ __forceinline__ void score_keys(const StepAttention<T>& a, StepState& state) {
  const int h = attender() / kWarp, lane = attender() % kWarp, slots = a.key_slots();
  int slot = 0;
  for (int slice = a.worker; slice < a.key_slices(); slice += a.workers) {
    const int position = slice * kSliceKeys + lane;
    const T* key = reinterpret_cast<const T*>(a.key_region + (slot * kSliceKeys + lane) * a.key_bytes());
    if (position == a.position) key = reinterpret_cast<const T*>(state.new_key);
    wait_copies<0>();
    sync_attenders();
    if (h < a.part_heads && position <= a.position) {
      const float score = score_of(state.queries[h], key, a.head_dim) * a.scale;
      publish(a.scores + int64_t{h} * a.context + position, score, a.epoch);
    }
    const int later = slice + slots * a.workers;
    if (later < a.key_slices()) {
      sync_attenders();  // this slot's keys have been read
      stage_keys(a, later, slot);
      commit_copies();
    }
    if (++slot == slots) slot = 0;
  }
}

/// A chunk's scores for a head as weights e^(score - maximum) in w, -inf beyond the last as 0; their sum is
/// in the order of sixteen lanes. By one warp.
struct ChunkSums {
  float maximum, total;
};
template <class T>
__device__ __forceinline__ ChunkSums soften_chunk(const StepAttention<T>& a, int chunk, int h, float* w) {
  const int lane = attender() % kWarp, length = a.position + 1 - chunk * kStepChunk;
  const Pair* scores = a.scores + int64_t{h} * a.context + chunk * kStepChunk + lane;
  float score[kPairSeries], maximum = -INFINITY, total = 0;
  unsigned missing = 0;
#pragma unroll
  for (int i = 0; i < kPairSeries; ++i) {
    score[i] = -INFINITY;
    if (lane + i * kWarp < length) missing |= 1u << i;
  }
  await_pairs<kPairSeries>(
      missing, a.epoch, [&](int i) { return scores + i * kWarp; },
      [&](int i, float value) { score[i] = value; });
#pragma unroll
  for (int i = 0; i < kPairSeries; ++i) maximum = fmaxf(maximum, score[i]);
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

/// A cache element as it stands, in a register of 32 bits.
__device__ __forceinline__ uint32_t raw_of(const float* p) {
  return __float_as_uint(*p);
}
__device__ __forceinline__ uint32_t raw_of(const __half* p) {
  return *reinterpret_cast<const uint16_t*>(p);
}
template <class T>
__device__ __forceinline__ float raw_to_float(uint32_t raw) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return __uint_as_float(raw);
  } else {
    return __half2float(__ushort_as_half(static_cast<uint16_t>(raw)));
  }
}

/// Lane (h, d): the weighted sum of dimension d of the staged values, in order of position. A chain of fma
/// whose operands are loaded eight positions ahead.
template <class T>
__device__ __forceinline__ float weighted_sum(const float* w, const T* values, int length) {
  constexpr int kAhead = 8;
  struct Operands {
    float4 low, high;
    uint32_t values[kAhead];
  };
  const auto load = [&](int p) {
    Operands operands;
    operands.low = *reinterpret_cast<const float4*>(w + p);
    operands.high = *reinterpret_cast<const float4*>(w + p + 4);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) operands.values[i] = raw_of(values + (p + i) * kSliceDims);
    return operands;
  };
  float o = 0;
  int p = 0;
  if (length >= kAhead) {
    Operands next = load(0);
#pragma unroll 2
    for (; p + kAhead <= length; p += kAhead) {
      const Operands x = next;
      next = load(p + 2 * kAhead <= length ? p + kAhead : p);
      o = fmaf(x.low.x, raw_to_float<T>(x.values[0]), o);
      o = fmaf(x.low.y, raw_to_float<T>(x.values[1]), o);
      o = fmaf(x.low.z, raw_to_float<T>(x.values[2]), o);
      o = fmaf(x.low.w, raw_to_float<T>(x.values[3]), o);
      o = fmaf(x.high.x, raw_to_float<T>(x.values[4]), o);
      o = fmaf(x.high.y, raw_to_float<T>(x.values[5]), o);
      o = fmaf(x.high.z, raw_to_float<T>(x.values[6]), o);
      o = fmaf(x.high.w, raw_to_float<T>(x.values[7]), o);
    }
  }
  for (; p < length; ++p) o = fmaf(w[p], raw_to_float<T>(raw_of(values + p * kSliceDims)), o);
  return o;
}

/// The new position's values of eight dimensions from `dim` on, into shared memory and the cache; by a warp.
template <class T>
__device__ __forceinline__ void take_new_value(const StepAttention<T>& a, int dim, T* place) {
  const int lane = attender() % kWarp;
  const bool mine = lane < kWarp / kPartHeads && dim + lane < a.head_dim;
  const Pair* v = a.qkv + (a.heads + a.kv_heads + a.kv_head) * a.head_dim + dim + lane;
  float value = 0;
  await_pairs<1>(
      mine ? 1u : 0u, a.epoch, [&](int) { return v; }, [&](int, float taken) { value = taken; });
  if (!mine) return;
  place[lane] = from_float<T>(value);
  if (a.stores) a.values[a.position * a.row() + dim + lane] = place[lane];
}

/// The block's sums over values: published for the join, or where a chunk is all there is, as they are. In
/// the first half a warp has a head, in the second eight dimensions; then lane (h, d).
template <class T>
__device__ __forceinline__ void sum_values(const StepAttention<T>& a, StepState& state) {
  const int warp = attender() / kWarp, lane = attender() % kWarp;
  constexpr int kDims = kWarp / kPartHeads;
  const int h = lane / kDims, my_dim = warp * kDims + lane % kDims;
  const int chunks = a.chunks(), items = chunks * a.dim_slices();
  auto* const w = reinterpret_cast<float*>(a.key_region);
  int slot = 0;
  for (int item = a.worker; item < items; item += a.workers) {
    const int chunk = a.unit_of(item), dim = a.dim_of(item);
    const int length = min(a.position + 1 - chunk * kStepChunk, kStepChunk);
    T* values = reinterpret_cast<T*>(a.value_region + slot * kValueBytes<T>);
    if (chunk + 1 == chunks)
      take_new_value(a, dim + warp * kDims, values + (length - 1) * kSliceDims + warp * kDims);
    if (warp < a.part_heads) {
      const ChunkSums sums = soften_chunk(a, chunk, warp, w + warp * kWeightStride);
      if (lane == 0) state.part_total[warp] = sums.total;
      if (lane == 0 && chunks > 1 && dim == 0) {
        Pair* const place = a.chunk_sums(chunk) + kPartHeads * a.head_dim + warp;
        publish(place, sums.maximum, a.epoch);
        publish(place + kPartHeads, sums.total, a.epoch);
      }
    }
    wait_copies<0>();
    sync_attenders();
    const float o = weighted_sum(w + h * kWeightStride, values + my_dim, length);
    if (h < a.part_heads && dim + my_dim < a.head_dim) {
      if (chunks > 1) {
        publish(a.chunk_sums(chunk) + h * a.head_dim + dim + my_dim, o, a.epoch);
      } else {
        publish(a.out + (a.first_head + h) * a.head_dim + dim + my_dim,
                o * __fdiv_rn(1.0f, state.part_total[h]), a.epoch);
      }
    }
    if (item + a.workers >= items) break;
    sync_attenders();  // weights and values have been read
    if (const int later = item + kValueSlots<T> * a.workers; later < items) {
      stage_values(a, later, slot);
      commit_copies();
    }
    if (++slot == kValueSlots<T>) slot = 0;
  }
}

/// What a chunk is worth in attention_merge: the state so far times `before`, the chunk's sums times
/// `factor`.
struct JoinFactors {
  float before, factor, total;  ///< total: the chunk's, times factor
};

/// The factors of chunks first ... first + 31, one a lane, after chunks whose maximum is `maximum`; which
/// becomes that of all.
template <class T>
__device__ __forceinline__ JoinFactors join_factors(const StepAttention<T>& a, int h, int first,
                                                    float& maximum) {
  const int lane = attender() % kWarp;
  const bool is_there = first + lane < a.chunks();
  const Pair* const place = a.chunk_sums(first + lane) + kPartHeads * a.head_dim + h;
  float mine = -INFINITY, total = 0;
  await_pairs<2>(
      is_there ? 3u : 0u, a.epoch, [&](int i) { return place + i * kPartHeads; },
      [&](int i, float value) { (i == 0 ? mine : total) = value; });
  float highest = maximum > mine ? maximum : mine;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const float other = __shfl_up_sync(0xffffffffu, highest, distance);
    if (lane >= distance) highest = other > highest ? other : highest;
  }
  const float previous = __shfl_up_sync(0xffffffffu, highest, 1);
  const float before = lane == 0 ? maximum : previous;
  maximum = __shfl_sync(0xffffffffu, highest, kWarp - 1);
  const float factor = exp_exact(mine - highest);
  return {exp_exact(before - highest), factor, __fmul_rn(total, factor)};
}

/// The block's joins, each of 32 dimensions of a head, one a lane: a batch of 32 chunks is gathered by all
/// warps and joined in order by the first.
template <class T>
__device__ __forceinline__ void join_chunks(const StepAttention<T>& a) {
  constexpr int kRounds = kWarp / kAttendWarps;
  const int warp = attender() / kWarp, lane = attender() % kWarp, chunks = a.chunks();
  auto* const factors = reinterpret_cast<JoinFactors*>(a.key_region);
  auto* const parts = reinterpret_cast<float*>(factors + kWarp);  // [chunk][dimension]
  for (int item = a.worker; item < a.part_heads * a.dim_slices(); item += a.workers) {
    const int h = a.unit_of(item), dim = a.dim_of(item) + lane;
    const Pair* const place = a.chunk_sums(0) + h * a.head_dim + dim;
    float maximum = -INFINITY, total = 0, out = 0;
    for (int first = 0; first < chunks; first += kWarp) {
      sync_attenders();  // the last batch, or the weights, have been read
      unsigned missing = 0;
#pragma unroll
      for (int i = 0; i < kRounds; ++i) {
        if (dim < a.head_dim && first + warp + i * kAttendWarps < chunks) missing |= 1u << i;
      }
      const auto chunk_of = [&](int i) { return warp + i * kAttendWarps; };
      await_pairs<kRounds>(
          missing, a.epoch,
          [&](int i) { return place + int64_t{first + chunk_of(i)} * step_chunk_pairs(a.head_dim); },
          [&](int i, float value) { parts[chunk_of(i) * kWarp + lane] = value; });
      if (warp == 0) factors[lane] = join_factors(a, h, first, maximum);
      sync_attenders();
      if (warp != 0) continue;
      const int count = min(kWarp, chunks - first);
#pragma unroll 4
      for (int c = 0; c < count; ++c) {
        const JoinFactors f = factors[c];
        const float part = parts[c * kWarp + lane];
        const bool is_first = first + c == 0;
        total = is_first ? f.total : fmaf(total, f.before, f.total);
        out = is_first ? part : fmaf(out, f.before, __fmul_rn(part, f.factor));
      }
    }
    if (warp == 0 && dim < a.head_dim) {
      publish(a.out + (a.first_head + h) * a.head_dim + dim, out * __fdiv_rn(1.0f, total), a.epoch);
    }
  }
}

#endif

}  // namespace bitnet::cuda
