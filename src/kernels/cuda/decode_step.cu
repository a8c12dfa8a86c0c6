// All layers for one new token in one kernel (sm_90), a block on every multiprocessor. Blocks hand vectors to
// each other in pairs of value and epoch (exchange.cuh), so that no grid barrier stands between the products;
// one warp of each block streams its weights through shared memory and never waits for anything but room.
// Before a block writes a vector's next layer, everything that was computed from this layer's has reached it:
// the blocks that produced that had read the vector.

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/step_attention.cuh"
#include "kernels/cuda/step_product.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

enum Matrix { kQkv, kAttnOutput, kGateUp, kDown };

struct StepParams {
  StepArgs args;
  Exchange exchange;
  int slots, q_bytes;
};

constexpr int64_t padded(int64_t elements) {
  return (elements + kPad - 1) / kPad * kPad;
}
int64_t parts_of(const Heads& heads) {
  return heads.kv_heads * ceil_div<int64_t>(heads.heads / heads.kv_heads, kPartHeads);
}
int64_t qkv_size(const Heads& heads) {
  return (heads.heads + 2 * heads.kv_heads) * heads.head_dim;
}

size_t fixed_bytes(const StepArgs& args) {
  const int64_t widest = *std::max_element(std::begin(args.k_tiles), std::end(args.k_tiles)) * kTileCols;
  return (sizeof(StepState) + 127) / 128 * 128 + static_cast<size_t>(args.layer_count) * sizeof(StepLayer) +
         2 * kAttentionRegion + static_cast<size_t>(widest);
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
  std::byte* attention;  ///< keys, and then values
  uint16_t* q;
  StepLayer* layers;
  StepState* state;
};
__device__ __forceinline__ Regions regions_of(const StepParams& params) {
  extern __shared__ uint4 shared[];
  auto* const slots = reinterpret_cast<std::byte*>(shared);
  std::byte* const attention = slots + params.slots * kSlotBytes;
  std::byte* const q = attention + 2 * kAttentionRegion;
  std::byte* const layers = q + params.q_bytes;
  std::byte* const state = layers + params.args.layer_count * sizeof(StepLayer);
  return {slots, attention, reinterpret_cast<uint16_t*>(q), reinterpret_cast<StepLayer*>(layers),
          reinterpret_cast<StepState*>(state)};
}

__device__ __forceinline__ WeightRing ring_of(const StepParams& params, const Regions& regions, int fills) {
  return {&regions.state->ring, regions.slots,        static_cast<int>(kSlotBytes),
          params.slots,         fills % params.slots, static_cast<uint32_t>(fills / params.slots)};
}

__device__ __forceinline__ Share share_of(const StepParams& params, int matrix) {
  return cuda::share_of(static_cast<int>(params.args.groups[matrix]));
}

__device__ __forceinline__ void stream_layers(const StepParams& params) {
  if (threadIdx.x % kWarp != 0) return;
  const Regions regions = regions_of(params);
  WeightRing ring = ring_of(params, regions, 0);
  for (int layer = 0; layer < params.args.layer_count; ++layer) {
    for (int matrix = kQkv; matrix <= kDown; ++matrix) {
      stream_weights(regions.layers[layer].tiles[matrix], share_of(params, matrix),
                     static_cast<int>(params.args.k_tiles[matrix]), ring);
    }
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
          .norm = layer.norms[matrix],
          .eps = params.args.eps};
}

/// What becomes of output i, of the thread's row in the block.
__device__ __forceinline__ void hand_on(const StepParams& params, StepState& state, int matrix, int layer,
                                        int i, float value) {
  const Exchange& exchange = params.exchange;
  if (matrix == kAttnOutput || matrix == kDown) {  // the residual's rows are the same block's in both
    value = __fadd_rn(state.residual[threadIdx.x], value);
    state.residual[threadIdx.x] = value;
  }
  Pair* const place = matrix == kQkv          ? exchange.qkv
                      : matrix == kAttnOutput ? exchange.middle
                      : matrix == kGateUp     ? exchange.gated
                                              : exchange.hidden;
  publish(place + i, value, params.args.epoch + static_cast<uint32_t>(layer));
  if (matrix == kDown && layer + 1 == params.args.layer_count && i < params.args.cols[kQkv])
    params.args.x[i] = value;
}

/// One product, from waiting for its input to handing on its outputs; `fills` of the ring have been read
/// before. Returns how many have been afterwards.
__device__ __forceinline__ int run_product(const StepParams& params, int matrix, int layer, int fills) {
  const Share groups = share_of(params, matrix);
  if (groups.count() == 0) return fills;
  const Regions regions = regions_of(params);
  StepState& state = *regions.state;
  const bool paired = matrix == kGateUp;
  const int thread = threadIdx.x, outputs = groups.count() * kTileRows / (paired ? 2 : 1);
  const int k_tiles = static_cast<int>(params.args.k_tiles[matrix]);
  const OutputScales scales = load_scales(regions.layers[layer].row_scales[matrix], groups, paired);
  const Rounded rounded =
      round_input(input_of(params, regions.layers[layer], matrix, layer), state, regions.q);
  const float factor = __fdiv_rn(scales.first, rounded.scale),
              up_factor = __fdiv_rn(scales.second, rounded.scale);
  WeightRing ring = ring_of(params, regions, fills);
  fills += multiply_slots(groups.count(), k_tiles, regions.q, ring, state);
  sync_workers();
  if (thread >= outputs) return fills;
  const int output = groups.begin * kTileRows / (paired ? 2 : 1) + thread;
  const int row = paired ? thread / 8 * kTileRows + thread % 8 : thread;
  float value = take_product(state, row, rounded.sum, factor);
  if (paired) {
    const float up = take_product(state, row + 8, rounded.sum, up_factor);
    value = __fmul_rn(params.args.relu2 ? relu2(value) : silu(value), up);
  }
  hand_on(params, state, matrix, layer, output, value);
  return fills;
}

template <class T>
__device__ __forceinline__ StepAttention<T> attention_of(const StepParams& params, int layer) {
  const StepArgs& args = params.args;
  const Exchange& exchange = params.exchange;
  std::byte* const region = regions_of(params).attention;
  return {.qkv = exchange.qkv,
          .scores = exchange.scores,
          .out = exchange.attn,
          .epoch = args.epoch + static_cast<uint32_t>(layer),
          .keys = static_cast<T*>(args.keys) + layer * args.layer_stride,
          .values = static_cast<T*>(args.values) + layer * args.layer_stride,
          .position = static_cast<int>(args.position),
          .context = static_cast<int>(args.context),
          .heads = static_cast<int>(args.heads.heads),
          .kv_heads = static_cast<int>(args.heads.kv_heads),
          .head_dim = static_cast<int>(args.heads.head_dim),
          .scale = args.scale,
          .key_region = region,
          .value_region = region + kAttentionRegion};
}

__device__ __forceinline__ void run_products(const StepParams& params) {
  const StepArgs& args = params.args;
  StepState& state = *regions_of(params).state;
  state.sums[threadIdx.x] = 0;
  const int64_t row = int64_t{share_of(params, kDown).begin} * kTileRows + threadIdx.x;
  state.residual[threadIdx.x] = row < args.cols[kQkv] ? __ldcg(args.x + row) : 0.0f;
  sync_workers();
  int fills = 0;
  for (int layer = 0; layer < args.layer_count; ++layer) {
#pragma unroll 1
    for (int matrix = kQkv; matrix <= kDown; ++matrix) fills = run_product(params, matrix, layer, fills);
  }
}

template <class T>
__device__ __forceinline__ void run_attention(const StepParams& params) {
  const StepArgs& args = params.args;
  StepState& state = *regions_of(params).state;
  const int64_t half = args.heads.head_dim / 2;
  for (int64_t i = attender(); i < half; i += kAttenders) {
    state.cos[i] = args.cos[args.position * half + i];
    state.sin[i] = args.sin[args.position * half + i];
  }
  sync_attenders();
  for (int layer = 0; layer < args.layer_count; ++layer) {
    const StepAttention<T> attention = attention_of<T>(params, layer);
    prefetch_cache(attention);
    score_keys(attention, state);
    sum_values(attention, state);
    sync_attenders();  // what the next layer overwrites has been read
  }
}

#endif

template <class T>
__global__ void __launch_bounds__(kStepThreads, 1) step_kernel(const __grid_constant__ StepParams params) {
#if __CUDA_ARCH__ >= 900
  const Regions regions = regions_of(params);
  if (threadIdx.x == 0) init_ring(regions.state->ring, params.slots, kStepWarps);
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
          .scores = take(parts_of(args.heads) * kPartHeads * args.context)};
}

}  // namespace

size_t step_exchange_bytes(const StepArgs& args) {
  const int64_t pairs = padded(qkv_size(args.heads)) + padded(args.cols[kAttnOutput]) +
                        2 * padded(args.cols[kQkv]) + padded(args.cols[kDown]) +
                        padded(parts_of(args.heads) * kPartHeads * args.context);
  return static_cast<size_t>(pairs) * sizeof(Pair);
}

bool step_runs(const StepArgs& args) {
  const DeviceLimits& limits = device_limits();
  if (!limits.overlapped_launch || args.layer_count > kMostStepLayers || slots_of(args) < 2) return false;
  if (args.heads.head_dim > kStepHeadDim) return false;
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
  const StepParams params{args, carve(args), slots, static_cast<int>(widest)};
  const size_t bytes = fixed_bytes(args) + static_cast<size_t>(slots) * kSlotBytes;
  for_kv_type(args.kv_type, [&](auto type) {
    launch(step_kernel<typename decltype(type)::Element>,
           dim3(static_cast<unsigned>(device_limits().multiprocessors)), kStepThreads, bytes,
           Start::kTogether, stream, params);
  });
}

}  // namespace bitnet::cuda
