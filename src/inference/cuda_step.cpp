#include "inference/cuda_step.h"

#include <array>
#include <cmath>
#include <limits>

namespace bitnet::cuda {
namespace {

/// Shapes are those of every layer; a model with norms of its projections has no such matrices.
StepArgs step_args(const ModelConfig& config, const CudaModel& model, const Scratch& scratch, DType kv_type,
                   int64_t context) {
  StepArgs args = {};
  if (model.step_layers.bytes() == 0) return args;
  const DeviceLayer& layer = model.layers.front();
  const std::array<const DeviceLinear*, 4> linears{&layer.qkv[0], &layer.attn_output, &layer.gate_up[0],
                                                   &layer.down};
  const std::array<int64_t, 4> cols{config.hidden_size, config.q_size(), config.hidden_size,
                                    config.intermediate_size};
  for (size_t m = 0; m < linears.size(); ++m) {
    args.groups[m] = linears[m]->weights.groups;
    args.k_tiles[m] = linears[m]->weights.k_tiles;
    args.cols[m] = cols[m];
  }
  args.layers = model.step_layers.as<StepLayer>();
  args.layer_count = config.num_layers;
  args.heads = heads_of(config);
  args.kv_type = kv_type;
  args.context = context;
  args.cos = scratch.cos.as<float>();
  args.sin = scratch.sin.as<float>();
  args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
  args.eps = config.rms_norm_eps;
  args.relu2 = config.activation == Activation::kRelu2;
  args.x = scratch.x.as<float>();
  return args;
}

}  // namespace

CudaStep::CudaStep(const ModelConfig& config, const CudaModel& model, const Scratch& scratch, DType kv_type,
                   int64_t context)
    : model_(model),
      args_(step_args(config, model, scratch, kv_type, context)),
      runs_(args_.layer_count > 0 && table().step_runs(args_)) {
  if (!runs_) return;
  exchange_ = DeviceBuffer(table().step_exchange_bytes(args_));
  args_.exchange = exchange_.data();
  args_.epoch = std::numeric_limits<uint32_t>::max();  // run() starts anew
}

void CudaStep::run(const int32_t* id, int64_t position, const CudaCache& cache, Stream stream) {
  run({.table = model_.embedding, .ids = id, .id = 0, .tokens = 1, .x = args_.x, .x_stride = 0}, position,
      cache, stream);
}

void CudaStep::run(int32_t id, int64_t position, const CudaCache& cache, Stream stream) {
  run({.table = model_.embedding, .ids = nullptr, .id = id, .tokens = 1, .x = args_.x, .x_stride = 0},
      position, cache, stream);
}

void CudaStep::run(const EmbedArgs& embed, int64_t position, const CudaCache& cache, Stream stream) {
  const auto layers = static_cast<uint32_t>(args_.layer_count);
  if (args_.epoch > std::numeric_limits<uint32_t>::max() - 2 * layers) {
    table().clear(exchange_.data(), exchange_.bytes(), stream);
    args_.epoch = 2;
  }
  args_.keys = cache.keys();
  args_.values = cache.values();
  args_.position = position;
  args_.positions = cache.positions();
  table().embed(embed, stream);
  table().decode_step(args_, stream);
  args_.epoch += layers;
}

}  // namespace bitnet::cuda
