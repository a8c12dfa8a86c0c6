#pragma once

// The second half of the persistent decode kernel's attention (step_attention.cuh): weights, sums over
// values, and the join of chunks.

#include "kernels/cuda/step_attention.cuh"

namespace bitnet::cuda {

#if __CUDA_ARCH__ >= 900

/// A chunk's scores for a head as weights e^(score - maximum) in w[0], w[stride], ..., -inf beyond the last
/// as 0; their sum is in the order of sixteen lanes. By one warp.
struct ChunkSums {
  float maximum, total;
};
template <int kStride, class T>
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
    w[(lane + i * kWarp) * kStride] = weight;
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

/// Two neighbouring cache elements as they stand.
template <class T>
struct alignas(2 * sizeof(T)) RawPair {
  uint32_t words[2 * sizeof(T) / sizeof(uint32_t)];
  [[nodiscard]] __device__ __forceinline__ float2 values() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return make_float2(__uint_as_float(words[0]), __uint_as_float(words[1]));
    } else {
      return __half22float2(*reinterpret_cast<const __half2*>(words));
    }
  }
};

/// Weights of kHeads heads, which lie side by side, and values of two dimensions at eight positions, in rows
/// of kRow, on their way to chains of fma.
template <class T, int kHeads, int kRow>
struct Weighted {
  static constexpr int kCount = 8;
  float4 weights[kCount * kHeads / 4];
  RawPair<T> pairs[kCount];

  __device__ __forceinline__ void load(const float* w, const T* v) {
#pragma unroll
    for (int i = 0; i < kCount * kHeads / 4; ++i) weights[i] = reinterpret_cast<const float4*>(w)[i];
#pragma unroll
    for (int i = 0; i < kCount; ++i) pairs[i] = *reinterpret_cast<const RawPair<T>*>(v + i * kRow);
  }
  /// o += the sum of the first `count`.
  __device__ __forceinline__ void add(float2 (&o)[kHeads], int count = kCount) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i >= count) continue;
      const float2 v = pairs[i].values();
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const int place = i * kHeads + h;
        const float4 four = weights[place / 4];
        const float w = place % 4 == 0 ? four.x : place % 4 == 1 ? four.y : place % 4 == 2 ? four.z : four.w;
        o[h].x = fmaf(w, v.x, o[h].x);
        o[h].y = fmaf(w, v.y, o[h].y);
      }
    }
  }
};

/// o += weights times staged values in order of position. What lies behind the last may be loaded, not used.
template <int kRow, int kHeads, class T>
__device__ __forceinline__ void add_weighted(float2 (&o)[kHeads], const float* w, const T* values,
                                             int length) {
  using Eight = Weighted<T, kHeads, kRow>;
  constexpr int kCount = Eight::kCount, kWeights = kCount * kHeads, kElements = kCount * kRow;
  Eight even, odd;
  even.load(w, values);
#pragma unroll 1
  for (; length > 2 * kCount; length -= 2 * kCount) {
    odd.load(w + kWeights, values + kElements);
    even.add(o);
    w += 2 * kWeights;
    values += 2 * kElements;
    even.load(w, values);
    odd.add(o);
  }
  odd.load(w + kWeights, values + kElements);
  even.add(o, length);
  odd.add(o, length - kCount);
}

/// The new position's value of a dimension, as the cache has it; all lanes of a warp, of which those that are
/// `mine` take one, and store it.
template <class T>
__device__ __forceinline__ T take_new_value(const StepAttention<T>& a, int dim, bool mine) {
  const Pair* v = a.qkv + (a.heads + a.kv_heads + a.kv_head) * a.head_dim + dim;
  float value = 0;
  await_pairs<1>(
      mine ? 1u : 0u, a.epoch, [&](int) { return v; }, [&](int, float taken) { value = taken; });
  const T stored = from_float<T>(value);
  if (mine && a.stores) a.values[a.position * a.row() + dim] = stored;
  return stored;
}

/// A warp's head of a chunk: weights for the block, maximum and total for it and the join.
template <int kStride, class T>
__device__ __forceinline__ void soften_head(const StepAttention<T>& a, StepState& state, int chunk, int h,
                                            float* w, bool publishes) {
  const ChunkSums sums = soften_chunk<kStride>(a, chunk, h, w);
  if (attender() % kWarp != 0) return;
  state.part_total[h] = sums.total;
  if (!publishes || a.chunks() == 1) return;
  Pair* const place = a.chunk_sums(chunk) + kPartHeads * a.head_dim + h;
  publish(place, sums.maximum, a.epoch);
  publish(place + kPartHeads, sums.total, a.epoch);
}

/// A head's sums over a chunk's values of dimensions dim, dim + 1: for the join, or where a chunk is all
/// there is, as the result.
template <class T>
__device__ __forceinline__ void publish_sums(const StepAttention<T>& a, const StepState& state, int chunk,
                                             int h, int dim, float2 o) {
  if (h >= a.part_heads || dim >= a.head_dim) return;
  Pair* place = a.chunk_sums(chunk) + h * a.head_dim + dim;
  if (a.chunks() == 1) {
    const float factor = __fdiv_rn(1.0f, state.part_total[h]);
    o = make_float2(o.x * factor, o.y * factor);
    place = a.out + (a.first_head + h) * a.head_dim + dim;
  }
  publish(place, o.x, a.epoch);
  publish(place + 1, o.y, a.epoch);
}

/// The block's sums over values of a slice of dimensions: a warp softens a head; then 16 lanes have a head,
/// and each two dimensions.
template <class T>
__device__ __forceinline__ void sum_slice(const StepAttention<T>& a, StepState& state) {
  if (a.worker >= a.chunks() * a.dim_slices()) return;
  constexpr int kTakes = kSliceDims / kAttendWarps, kLanes = kSliceDims / 2;
  const int warp = attender() / kWarp, lane = attender() % kWarp;
  const int h = attender() / kLanes, my_dim = attender() % kLanes * 2;
  const int chunk = a.unit_of(a.worker), dim = a.dim_of(a.worker);
  const int length = min(a.position + 1 - chunk * kStepChunk, kStepChunk);
  auto* const w = reinterpret_cast<float*>(a.region);
  T* const values = reinterpret_cast<T*>(slice_place(a));
  if (chunk + 1 == a.chunks()) {
    const int new_dim = warp * kTakes + lane;
    const bool mine = lane < kTakes && dim + new_dim < a.head_dim;
    const T value = take_new_value(a, dim + new_dim, mine);
    if (mine) values[(length - 1) * kSliceDims + new_dim] = value;
  }
  if (warp < a.part_heads) soften_head<1>(a, state, chunk, warp, w + warp * kStepChunk, dim == 0);
  wait_copies<0>();
  sync_attenders();
  if (h >= a.part_heads) return;
  float2 o[1] = {};
  add_weighted<kSliceDims>(o, w + h * kStepChunk, values + my_dim, length);
  publish_sums(a, state, chunk, h, dim + my_dim, o[0]);
}

/// The block's sums over values of whole chunks: a warp softens a head; then it has two heads and 64
/// dimensions, two of them a lane.
template <class T>
__device__ __forceinline__ void sum_chunks(const StepAttention<T>& a, StepState& state) {
  constexpr int kHeads = 2;
  const int warp = attender() / kWarp, lane = attender() % kWarp;
  const int h = warp / 2 * kHeads, dim = (warp % 2 * kWarp + lane) * 2;
  const auto weights_of = [&](int head) {  // [two heads][position][head]
    return reinterpret_cast<float*>(a.region) + head / kHeads * kHeads * kStepChunk + head % kHeads;
  };
  T* const values = reinterpret_cast<T*>(batch_place(a));
#pragma unroll 1
  for (int chunk = a.worker; chunk < a.chunks(); chunk += a.workers) {
    const int first = chunk * kStepChunk, length = min(a.position + 1 - first, kStepChunk);
    const bool has_new = chunk + 1 == a.chunks() && attender() < a.head_dim;
    T new_value = {};
    float2 o[kHeads] = {};
#pragma unroll 1
    for (int begin = 0; begin < length; begin += kBatchRows<T>) {
      const bool early = chunk == a.worker && begin == 0;  // prefetch_cache has begun it
      if (!early) sync_attenders();                        // weights and values have been read
      stage_batch(a, first + begin, 0, early ? a.late_rows() : kBatchRows<T>);
      commit_copies();
      if (begin == 0) {
        if (chunk + 1 == a.chunks()) new_value = take_new_value(a, attender(), has_new);
        if (warp < a.part_heads) soften_head<kHeads>(a, state, chunk, warp, weights_of(warp), true);
      }
      const int count = min(length - begin, kBatchRows<T>);
      if (has_new && begin + count == length) values[(count - 1) * kStepHeadDim + attender()] = new_value;
      wait_copies<0>();
      sync_attenders();
      if (h < a.part_heads && dim < a.head_dim)
        add_weighted<kStepHeadDim>(o, weights_of(h) + kHeads * begin, values + dim, count);
    }
    publish_sums(a, state, chunk, h, dim, o[0]);
    publish_sums(a, state, chunk, h + 1, dim, o[1]);
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
/// warps and joined in order by the first. Blocks without values come first; maxima and totals before sums.
template <class T>
__device__ __forceinline__ void join_chunks(const StepAttention<T>& a) {
  constexpr int kRounds = kWarp / kAttendWarps;
  const int warp = attender() / kWarp, lane = attender() % kWarp, chunks = a.chunks();
  auto* const factors = reinterpret_cast<JoinFactors*>(a.region);
  auto* const parts = reinterpret_cast<float*>(factors + kWarp);  // [chunk][dimension]
  for (int item = a.workers - 1 - a.worker; item < a.part_heads * a.dim_slices(); item += a.workers) {
    const int h = a.unit_of(item), dim = a.dim_of(item) + lane;
    const Pair* const place = a.chunk_sums(0) + h * a.head_dim + dim;
    float maximum = -INFINITY, total = 0, out = 0;
    for (int first = 0; first < chunks; first += kWarp) {
      sync_attenders();  // the last batch, or the weights, have been read
      if (warp == 0) factors[lane] = join_factors(a, h, first, maximum);
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
