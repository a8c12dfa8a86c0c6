// All layers for one new token in one kernel (sm_90), a block on every multiprocessor. Blocks hand vectors to
// each other in pairs of value and epoch (exchange.cuh), so that no grid barrier stands between the products;
// one warp of each block streams its weights through shared memory and never waits for anything but room.
// Before a block writes a vector's next layer, everything that was computed from this layer's has reached it:
// the blocks that produced that had read the vector.

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/step_i8.cuh"
#include "kernels/cuda/step_product.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

enum Matrix { kQkv, kAttnOutput, kGateUp, kDown };

struct StepParams {
  StepArgs args;
  Exchange exchange;
  int slots, q_bytes;
  int64_t layer_stride, scale_stride;  ///< elements of a cache, and scales of an i8 cache, between layers
  double inverse_cols[4];
};

constexpr int64_t padded(int64_t elements) {
  return (elements + kPad - 1) / kPad * kPad;
}
int64_t parts_of(const Heads& heads) {
  return heads.kv_heads * ceil_div<int64_t>(heads.heads / heads.kv_heads, kPartHeads);
}
int64_t sums_size(const StepArgs& args) {
  return parts_of(args.heads) * ceil_div(args.context, kernels::kAttentionChunk) *
         step_chunk_pairs(args.heads.head_dim);
}
int64_t qkv_size(const Heads& heads) {
  return (heads.heads + 2 * heads.kv_heads) * heads.head_dim;
}

size_t fixed_bytes(const StepArgs& args) {
  const int64_t widest = *std::max_element(std::begin(args.k_tiles), std::end(args.k_tiles)) * kTileCols;
  return (sizeof(StepState) + 127) / 128 * 128 + static_cast<size_t>(args.layer_count) * sizeof(StepLayer) +
         kAttentionBytes + static_cast<size_t>(widest);
}
constexpr size_t kSlotBytes = size_t{kSlotTiles} * kTileVectors * sizeof(uint4);

int slots_of(const StepArgs& args) {
  const auto room = static_cast<size_t>(device_limits().shared_bytes) - 128;
  const size_t fixed = fixed_bytes(args);
  return fixed >= room ? 0 : static_cast<int>(std::min<size_t>((room - fixed) / kSlotBytes, kMostSlots));
}

#if __CUDA_ARCH__ >= 900

/// The kernel's shared memory.
struct Regions {
  std::byte* slots;
  std::byte* attention;
  uint16_t* q;
  StepLayer* layers;
  StepState* state;
};
__device__ __forceinline__ Regions regions_of(const StepParams& params) {
  extern __shared__ uint4 shared[];
  auto* const slots = reinterpret_cast<std::byte*>(shared);
  std::byte* const attention = slots + params.slots * kSlotBytes;
  std::byte* const q = attention + kAttentionBytes;
  std::byte* const layers = q + params.q_bytes;
  std::byte* const state = layers + params.args.layer_count * sizeof(StepLayer);
  return {slots, attention, reinterpret_cast<uint16_t*>(q), reinterpret_cast<StepLayer*>(layers),
          reinterpret_cast<StepState*>(state)};
}

__device__ __forceinline__ WeightRing ring_of(const StepParams& params, const Regions& regions) {
  return {&regions.state->ring, regions.slots, static_cast<int>(kSlotBytes), params.slots};
}

__device__ __forceinline__ void stream_layers(const StepParams& params) {
  if (threadIdx.x % kWarp != 0) return;
  const Regions regions = regions_of(params);
  WeightRing ring = ring_of(params, regions);
  for (int layer = 0; layer < params.args.layer_count; ++layer) {
#pragma unroll 1
    for (int matrix = kQkv; matrix <= kDown; ++matrix)
      stream_weights(regions.layers[layer].tiles[matrix], regions.state->shares[matrix], ring);
  }
}

__device__ __forceinline__ StepInput input_of(const StepParams& params, const StepLayer& layer, int matrix,
                                              int index) {
  const Exchange& exchange = params.exchange;
  const uint32_t epoch = params.args.epoch + static_cast<uint32_t>(index);
  return {.pairs = matrix == kQkv          ? exchange.hidden
                   : matrix == kAttnOutput ? exchange.attn
                   : matrix == kGateUp     ? exchange.middle
                                           : exchange.gated,
          .plain = matrix == kQkv && index == 0 ? params.args.x : nullptr,
          .epoch = matrix == kQkv ? epoch - 1 : epoch,  // the layer in front wrote what q/k/v reads
          .cols = static_cast<int>(params.args.cols[matrix]),
          .padded = static_cast<int>(params.args.k_tiles[matrix]) * kTileCols,
          .inverse_cols = params.inverse_cols[matrix],
          .norm = layer.norms[matrix],
          .eps = params.args.eps};
}

__device__ __forceinline__ Pair* outputs_of(const Exchange& exchange, int matrix) {
  return matrix == kQkv          ? exchange.qkv
         : matrix == kAttnOutput ? exchange.middle
         : matrix == kGateUp     ? exchange.gated
                                 : exchange.hidden;
}

/// One product, from waiting for its input to handing on its outputs. What the handing on needs is computed
/// before, while nobody waits for it.
__device__ __forceinline__ void run_product(const StepParams& params, const Regions& regions, int matrix,
                                            int layer, WeightRing& ring) {
  StepState& state = *regions.state;
  const Share groups = state.shares[matrix];
  if (groups.count() == 0) return;
  const bool paired = matrix == kGateUp, to_residual = matrix == kAttnOutput || matrix == kDown;
  const int thread = threadIdx.x, rows = groups.count() * kTileRows, first_row = groups.begin * kTileRows;
  const int outputs = paired ? rows / 2 : rows, output = (paired ? first_row / 2 : first_row) + thread;
  const OutputScales scales = load_scales(regions.layers[layer].row_scales[matrix], groups, paired);
  const Rounded rounded =
      round_input(input_of(params, regions.layers[layer], matrix, layer), state, regions.q);
  const bool has_output = thread < outputs;
  const float factor = has_output ? now(__fdiv_rn(scales.first, rounded.scale)) : 0.0f;
  const float up_factor = has_output && paired ? now(__fdiv_rn(scales.second, rounded.scale)) : 0.0f;
  Pair* const place = now(outputs_of(params.exchange, matrix) + output);
  multiply_slots(groups, regions.q, ring, state);
  sync_workers();
  if (!has_output) return;
  const int row = paired ? thread / 8 * kTileRows + thread % 8 : thread;
  float value = take_product(state, row, rounded.sum, factor);
  if (paired) {
    const float up = take_product(state, row + 8, rounded.sum, up_factor);
    value = __fmul_rn(params.args.relu2 ? relu2(value) : silu(value), up);
  }
  if (to_residual) value = __fadd_rn(state.residual[thread], value);  // its rows are the same block's in both
  publish(place, value, params.args.epoch + static_cast<uint32_t>(layer));
  if (to_residual) state.residual[thread] = value;
  if (matrix == kDown && layer + 1 == params.args.layer_count && output < params.args.cols[kQkv])
    params.args.x[output] = value;
}

template <class T>
__device__ __forceinline__ StepAttention<T> attention_of(const StepParams& params) {
  const StepArgs& args = params.args;
  const int heads = static_cast<int>(args.heads.heads), kv_heads = static_cast<int>(args.heads.kv_heads);
  const int group = heads / kv_heads, head_parts = (group + kPartHeads - 1) / kPartHeads;
  const int parts = kv_heads * head_parts, block = static_cast<int>(blockIdx.x), part = block % parts;
  const int head_part = part % head_parts, head_dim = static_cast<int>(args.heads.head_dim);
  const int64_t chunks = (args.context + kStepChunk - 1) / kStepChunk;
  const int64_t offset = part / head_parts * kv_head_stride(head_dim);
  const auto scales_of = [&](void* cache) {  // behind an i8 cache's layers
    auto* const bytes = static_cast<std::byte*>(cache) + args.layer_count * params.layer_stride;
    return reinterpret_cast<float*>(bytes) + part / head_parts * args.positions;
  };
  StepAttention<T> attention{.qkv = params.exchange.qkv,
                             .scores = params.exchange.scores + int64_t{part} * kPartHeads * args.context,
                             .sums = params.exchange.sums + part * chunks * step_chunk_pairs(head_dim),
                             .out = params.exchange.attn,
                             .epoch = args.epoch,
                             .keys = static_cast<T*>(args.keys) + offset,
                             .values = static_cast<T*>(args.values) + (kIsI8<T> ? 4 : 1) * offset,
                             .key_scales = scales_of(args.keys),
                             .value_scales = scales_of(args.values),
                             .position = static_cast<int>(args.position),
                             .context = static_cast<int>(args.context),
                             .heads = heads,
                             .kv_heads = kv_heads,
                             .head_dim = head_dim,
                             .scale = args.scale,
                             .region = regions_of(params).attention,
                             .kv_head = part / head_parts,
                             .first_head = part / head_parts * group + head_part * kPartHeads,
                             .part_heads = min(kPartHeads, group - head_part * kPartHeads),
                             .worker = block / parts,
                             .workers = static_cast<int>(gridDim.x) / parts,
                             .key_slots = 0,
                             .stores = head_part == 0};
  attention.key_slots = attention.most_key_slots();
  return attention;
}

__device__ __forceinline__ void run_products(const StepParams& params) {
  const StepArgs& args = params.args;
  const Regions regions = regions_of(params);
  StepState& state = *regions.state;
  state.sums[threadIdx.x] = 0;
  const int64_t row = int64_t{state.shares[kDown].begin} * kTileRows + threadIdx.x;
  state.residual[threadIdx.x] = row < args.cols[kQkv] ? __ldcg(args.x + row) : 0.0f;
  sync_workers();
  WeightRing ring = ring_of(params, regions);
  for (int layer = 0; layer < args.layer_count; ++layer) {
#pragma unroll 1
    for (int matrix = kQkv; matrix <= kDown; ++matrix) run_product(params, regions, matrix, layer, ring);
  }
}

template <class T>
__device__ __forceinline__ void run_attention(const StepParams& params) {
  const StepArgs& args = params.args;
  StepState& state = *regions_of(params).state;
  StepAttention<T> attention = attention_of<T>(params);
  if (attention.worker >= attention.workers) return;
  const int64_t half = args.heads.head_dim / 2;
  for (int64_t i = attender(); i < half; i += kAttenders) {
    state.cos[i] = args.cos[args.position * half + i];
    state.sin[i] = args.sin[args.position * half + i];
  }
  sync_attenders();
  for (int layer = 0; layer < args.layer_count; ++layer) {
    // What follows from these is cheaper computed again than kept in registers through all layers.
    asm volatile(""
                 : "+r"(attention.position), "+r"(attention.head_dim), "+r"(attention.workers),
                   "+r"(attention.worker), "+r"(attention.key_slots), "+l"(attention.scores),
                   "+l"(attention.sums));
    if constexpr (kIsI8<T>) {
      prefetch_i8_cache(attention);
      rotate_new(attention, state);
      round_new(attention, state);
    } else {
      prefetch_cache(attention);
      rotate_new(attention, state);
    }
    score_keys(attention, state);
    sync_attenders();  // the keys' memory is free
    if constexpr (kIsI8<T>) {
      sum_i8_chunks(attention, state);
    } else if (attention.whole_chunks()) {
      sum_chunks(attention, state);
    } else {
      sum_slice(attention, state);
    }
    if (attention.chunks() > 1) join_chunks(attention);
    sync_attenders();  // what the next layer overwrites has been read
    ++attention.epoch;
    attention.keys += params.layer_stride;
    attention.values += params.layer_stride;
    attention.key_scales += params.scale_stride;
    attention.value_scales += params.scale_stride;
  }
}

#endif

template <class T>
__global__ void __launch_bounds__(kStepThreads, 1) step_kernel(const __grid_constant__ StepParams params) {
#if __CUDA_ARCH__ >= 900
  const Regions regions = regions_of(params);
  if (threadIdx.x == 0) init_ring(regions.state->ring, params.slots, kStepWarps);
  if (threadIdx.x < 4) {
    regions.state->shares[threadIdx.x] =
        share_of(params.args.groups[threadIdx.x], static_cast<int>(params.args.k_tiles[threadIdx.x]));
  }
  const int words = static_cast<int>(params.args.layer_count * sizeof(StepLayer) / sizeof(uint64_t));
  for (int i = threadIdx.x; i < words; i += kStepThreads)
    reinterpret_cast<uint64_t*>(regions.layers)[i] = reinterpret_cast<const uint64_t*>(params.args.layers)[i];
  __syncthreads();
  if (threadIdx.x < kWorkers) {
    run_products(params);
  } else if (threadIdx.x < kWorkers + kAttenders) {
    run_attention<T>(params);
  } else {
    stream_layers(params);
  }
#endif
}

Exchange carve(const StepArgs& args) {
  auto* pairs = static_cast<Pair*>(args.exchange);
  const auto take = [&](int64_t count) {
    Pair* part = pairs;
    pairs += padded(count);
    return part;
  };
  const int64_t hidden = args.cols[kQkv];
  return {.qkv = take(qkv_size(args.heads)),
          .attn = take(args.cols[kAttnOutput]),
          .middle = take(hidden),
          .gated = take(args.cols[kDown]),
          .hidden = take(hidden),
          .scores = take(parts_of(args.heads) * kPartHeads * args.context),
          .sums = take(sums_size(args))};
}

}  // namespace

size_t step_exchange_bytes(const StepArgs& args) {
  const int64_t pairs = padded(qkv_size(args.heads)) + padded(args.cols[kAttnOutput]) +
                        2 * padded(args.cols[kQkv]) + padded(args.cols[kDown]) +
                        padded(parts_of(args.heads) * kPartHeads * args.context) + padded(sums_size(args));
  return static_cast<size_t>(pairs) * sizeof(Pair);
}

bool step_runs(const StepArgs& args) {
  const DeviceLimits& limits = device_limits();
  if (!limits.overlapped_launch || args.layer_count > kMostStepLayers || slots_of(args) < 2) return false;
  if (args.kv_type == DType::kI8 && args.heads.head_dim % 16 != 0) return false;  // rows of whole vectors
  if (args.heads.head_dim > kStepHeadDim || parts_of(args.heads) > limits.multiprocessors) return false;
  for (int m = 0; m < 4; ++m) {
    const int64_t most_groups = ceil_div<int64_t>(args.groups[m], limits.multiprocessors);
    if (args.cols[m] % 2 != 0 || args.k_tiles[m] * kTileCols > kMostUnits * 2 * kWorkers) return false;
    if (most_groups * kTileRows > kStepRows) return false;
  }
  return true;
}

void decode_step(const StepArgs& args, Stream stream) {
  const int slots = slots_of(args);
  const int64_t widest = *std::max_element(std::begin(args.k_tiles), std::end(args.k_tiles)) * kTileCols;
  const int64_t scales = args.positions * args.heads.kv_heads;
  StepParams params{
      args,   carve(args), slots, static_cast<int>(widest), scales * kv_head_stride(args.heads.head_dim),
      scales, {}};
  for (int m = 0; m < 4; ++m) params.inverse_cols[m] = 1.0 / static_cast<double>(args.cols[m]);
  const size_t bytes = fixed_bytes(args) + static_cast<size_t>(slots) * kSlotBytes;
  const auto start = [&](auto* kernel) {
    launch(kernel, dim3(static_cast<unsigned>(device_limits().multiprocessors)), kStepThreads, bytes,
           Start::kTogether, stream, params);
  };
  if (args.kv_type == DType::kI8) {
    start(step_kernel<int8_t>);
  } else {
    for_kv_type(args.kv_type, [&](auto type) { start(step_kernel<typename decltype(type)::Element>); });
  }
}

}  // namespace bitnet::cuda
