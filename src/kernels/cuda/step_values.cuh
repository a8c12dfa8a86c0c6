#pragma once

// The second half of the persistent decode kernel's attention (step_attention.cuh): weights, sums over
// values, and the join of chunks.

#include "kernels/cuda/step_attention.cuh"

namespace bitnet::cuda {

#if __CUDA_ARCH__ >= 900

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

/// Weights and values of eight positions, on their way to a chain of fma.
template <class T>
struct Weighted {
  static constexpr int kCount = 8;
  float weights[kCount];
  uint32_t values[kCount];

  __device__ __forceinline__ void load(const float* w, const T* v) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(w + i);
      weights[i] = four.x;
      weights[i + 1] = four.y;
      weights[i + 2] = four.z;
      weights[i + 3] = four.w;
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = raw_of(v + i * kSliceDims);
  }
  /// o + the sum of the first `count`.
  [[nodiscard]] __device__ __forceinline__ float add(float o, int count = kCount) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) o = fmaf(weights[i], raw_to_float<T>(values[i]), o);
    }
    return o;
  }
};

/// Lane (h, d): the weighted sum of dimension d of the staged values, in order of position. What lies behind
/// the last may be loaded, not used.
template <class T>
__device__ __forceinline__ float weighted_sum(const float* w, const T* values, int length) {
  constexpr int kCount = Weighted<T>::kCount;
  Weighted<T> even, odd;
  float o = 0;
  even.load(w, values);
#pragma unroll 1
  for (; length > 2 * kCount; length -= 2 * kCount) {
    odd.load(w + kCount, values + kCount * kSliceDims);
    o = even.add(o);
    w += 2 * kCount;
    values += 2 * kCount * kSliceDims;
    even.load(w, values);
    o = odd.add(o);
  }
  odd.load(w + kCount, values + kCount * kSliceDims);
  o = even.add(o, length);
  return odd.add(o, length - kCount);
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
    wait_copies<kValueSlots<T> - 1>();  // what was staged last is another item's
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
    if (const int later = item + kValueSlots<T> * a.workers; later < items) stage_values(a, later, slot);
    commit_copies();
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
