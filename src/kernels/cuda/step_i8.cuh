#pragma once

// What the persistent decode kernel's attention (step_attention.cuh, step_values.cuh) does otherwise over an
// i8 cache, with the arithmetic of i8_attention.cu: sums are integers, so they are cheap, and a block always
// sums whole chunks.

#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/step_values.cuh"

namespace bitnet::cuda {

#if __CUDA_ARCH__ >= 900

/// Four elements of a row that a warp has, as int8 in a word; and the row's scale.
struct I8Row {
  uint32_t word;
  float scale;
};
/// A row that is not finite has zeros and a scale that makes them NaN.
__device__ __forceinline__ I8Row round_row(float4 x) {
  const uint32_t magnitude = __reduce_max_sync(0xffffffffu, max(magnitude_of(x), magnitude_bits(1e-5f)));
  const float factor = __fdiv_rn(127.0f, __uint_as_float(magnitude));
  return {factor > 0 ? quantize_four(x, factor) : 0u, __fdiv_rn(1.0f, factor)};
}

using I8Attention = StepAttention<int8_t>;

/// A block's values: staged [four positions][dimension][position].
__device__ __forceinline__ std::byte* i8_values(const I8Attention& a) {
  return a.region + kAttentionBytes - kI8ValueBytes;
}

/// The older values of a chunk, and their scales.
__device__ __forceinline__ void stage_i8_values(const I8Attention& a, int chunk) {
  const int first = chunk * kStepChunk, older = min(kStepChunk, a.position - first);
  for (int p = attender(); p < older; p += kAttenders) a.i8().value_scales[p] = a.value_scales[first + p];
  stage_rows(i8_values(a), 4 * kStepHeadDim, a.values + first * a.row(), 4 * a.row(), (older + 3) / 4,
             a.head_dim / 4);
}

/// What of the cache a block needs first, while others compute what comes before.
__device__ __forceinline__ void prefetch_i8_cache(const I8Attention& a) {
  stage_key_slots(a, a.worker);
  if (a.worker < a.chunks()) stage_i8_values(a, a.worker);
  commit_copies();
}

/// The rotated queries and the new key as int8, a warp a row; the key is stored.
__device__ __forceinline__ void round_new(const I8Attention& a, StepState& state) {
  const int thread = now(attender()), warp = thread / kWarp, lane = thread % kWarp;
  const auto row_of = [&](const float* x) {
    return round_row(4 * lane < a.head_dim ? reinterpret_cast<const float4*>(x)[lane] : float4{});
  };
  sync_attenders();  // the rows are whole
  if (warp < a.part_heads) {
    const I8Row query = row_of(state.queries[warp]);
    state.i8.queries[warp][lane] = query.word;
    if (lane == 0) state.i8.query_scales[warp] = query.scale;
  }
  if (warp != 0 || (a.key_slices() - 1) % a.workers != a.worker) return;
  const I8Row key = row_of(state.new_key);
  state.i8.new_key[lane] = key.word;
  if (lane == 0) state.i8.new_key_scale = key.scale;
  if (!a.stores) return;
  if (4 * lane < a.head_dim) reinterpret_cast<uint32_t*>(a.keys + a.position * a.row())[lane] = key.word;
  if (lane == 0) a.key_scales[a.position] = key.scale;
}

/// The new position's value, into the staged ones and the cache; by a warp.
__device__ __forceinline__ void take_new_i8_value(const I8Attention& a) {
  const int lane = attender() % kWarp, in_chunk = a.position % kStepChunk, in_four = a.position % 4;
  const Pair* v = a.qkv + (a.heads + a.kv_heads + a.kv_head) * a.head_dim + 4 * lane;
  const bool mine = 4 * lane < a.head_dim;
  float x[4] = {};
  await_pairs<4>(
      mine ? 15u : 0u, a.epoch, [&](int i) { return v + i; }, [&](int i, float value) { x[i] = value; });
  const I8Row row = round_row(make_float4(x[0], x[1], x[2], x[3]));
  if (lane == 0) a.i8().value_scales[in_chunk] = row.scale;
  if (lane == 0 && a.stores) a.value_scales[a.position] = row.scale;
  if (!mine) return;
  auto* const staged = reinterpret_cast<int8_t*>(i8_values(a)) + in_chunk / 4 * 4 * kStepHeadDim;
  int8_t* const stored = a.values + a.position / 4 * 4 * a.row();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int place = (4 * lane + i) * 4 + in_four;
    const auto element = static_cast<int8_t>(row.word >> 8 * i);
    staged[place] = element;
    if (a.stores) stored[place] = element;
  }
}

/// A head's weights times the values' scales as digits; returns what a unit of a sum is worth. By a warp.
__device__ __forceinline__ float round_weights(const float* w, I8Region& region, int h, int length) {
  constexpr float kMost = kernels::kAttentionWeightMax;
  const int lane = attender() % kWarp;
  float4 weights[2];
  uint32_t magnitude = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int word = lane + i * kWarp, p = 4 * word;
    const float4 weight = reinterpret_cast<const float4*>(w)[word];
    const float4 scale = reinterpret_cast<const float4*>(region.value_scales)[word];
    weights[i].x = p < length ? __fmul_rn(weight.x, scale.x) : 0.0f;
    weights[i].y = p + 1 < length ? __fmul_rn(weight.y, scale.y) : 0.0f;
    weights[i].z = p + 2 < length ? __fmul_rn(weight.z, scale.z) : 0.0f;
    weights[i].w = p + 3 < length ? __fmul_rn(weight.w, scale.w) : 0.0f;
    magnitude = max(magnitude, magnitude_of(weights[i]));
  }
  const float largest = __uint_as_float(__reduce_max_sync(0xffffffffu, magnitude));
  const bool usable = largest > 0 && largest <= 0x1.fffffep+127f;
  const float factor = usable ? __fdiv_rn(kMost, largest) : 0.0f;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float u[4] = {weights[i].x, weights[i].y, weights[i].z, weights[i].w};
    uint32_t high = 0, low = 0;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int digits = usable ? __float2int_rn(__fmul_rn(u[n], factor)) : 0;
      high |= static_cast<uint32_t>(digits >> 7) << 8 * n;
      low |= static_cast<uint32_t>(digits & 127) << 8 * n;
    }
    region.high[h][lane + i * kWarp] = high;
    region.low[h][lane + i * kWarp] = low;
  }
  return __fdiv_rn(largest, kMost);
}

/// Two heads' sums over the values of dimensions dim, dim + 1. What lies behind the last has no weight.
__device__ __forceinline__ void add_i8_values(const I8Attention& a, int h, int dim, int length,
                                              int (&sums)[2][2]) {
  const auto* values = reinterpret_cast<const int2*>(i8_values(a) + 4 * dim);
  constexpr int kRow = 4 * kStepHeadDim / sizeof(int2);
  int high[2][2] = {}, low[2][2] = {};
#pragma unroll 2
  for (int g = 0; g < (length + 15) / 16; ++g) {
    int2 v[4];
#pragma unroll
    for (int n = 0; n < 4; ++n) v[n] = values[(4 * g + n) * kRow];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int4 hi = reinterpret_cast<const int4*>(a.i8().high[h + i])[g];
      const int4 lo = reinterpret_cast<const int4*>(a.i8().low[h + i])[g];
      high[i][0] =
          __dp4a(hi.w, v[3].x, __dp4a(hi.z, v[2].x, __dp4a(hi.y, v[1].x, __dp4a(hi.x, v[0].x, high[i][0]))));
      high[i][1] =
          __dp4a(hi.w, v[3].y, __dp4a(hi.z, v[2].y, __dp4a(hi.y, v[1].y, __dp4a(hi.x, v[0].y, high[i][1]))));
      low[i][0] =
          __dp4a(lo.w, v[3].x, __dp4a(lo.z, v[2].x, __dp4a(lo.y, v[1].x, __dp4a(lo.x, v[0].x, low[i][0]))));
      low[i][1] =
          __dp4a(lo.w, v[3].y, __dp4a(lo.z, v[2].y, __dp4a(lo.y, v[1].y, __dp4a(lo.x, v[0].y, low[i][1]))));
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sums[i][0] = high[i][0] * 128 + low[i][0];
    sums[i][1] = high[i][1] * 128 + low[i][1];
  }
}

/// The block's sums over values of whole chunks: a warp softens a head; then it has two heads and 64
/// dimensions, two of them a lane.
__device__ __forceinline__ void sum_i8_chunks(const I8Attention& a, StepState& state) {
  const int thread = now(attender()), warp = thread / kWarp, lane = thread % kWarp;
  const int h = warp / 2 * 2, dim = (warp % 2 * kWarp + lane) * 2;
  float* const w = reinterpret_cast<float*>(a.region) + warp * kStepChunk;
#pragma unroll 1
  for (int chunk = a.worker; chunk < a.chunks(); chunk += a.workers) {
    const int length = min(a.position + 1 - chunk * kStepChunk, kStepChunk);
    if (chunk != a.worker) {
      sync_attenders();  // weights and values have been read
      stage_i8_values(a, chunk);
      commit_copies();
      wait_copies<0>();
      sync_attenders();
    }
    if (chunk + 1 == a.chunks() && warp == kAttendWarps - 1) take_new_i8_value(a);
    if (warp < a.part_heads) soften_head<1>(a, state, chunk, warp, w, true);
    sync_attenders();  // the new value's scale
    if (warp < a.part_heads) {
      const float factor = round_weights(w, a.i8(), warp, length);
      if (lane == 0) state.i8.part_factor[warp] = factor;
    }
    sync_attenders();
    if (h >= a.part_heads || dim >= a.head_dim) continue;
    int sums[2][2];
    add_i8_values(a, h, dim, length, sums);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float factor = state.i8.part_factor[h + i];
      publish_sums(a, state, chunk, h + i, dim,
                   make_float2(__fmul_rn(static_cast<float>(sums[i][0]), factor),
                               __fmul_rn(static_cast<float>(sums[i][1]), factor)));
    }
  }
}

#endif

}  // namespace bitnet::cuda
