#include "inference/cuda_model.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/core/mapped_file.h"
#include "inference/cuda_upload.h"

#include <algorithm>
#include <array>
#include <chrono>

#include <fmt/format.h>

namespace bitnet::cuda {
namespace {

// The int32 sums of a row stay in bounds below this width (gemv.cu).
constexpr int64_t kMostCols = (int64_t{1} << 18) - kPad;
constexpr int64_t kRowAlignment = 64;  // sixteen f32: what two threads of the head kernel read at once

bool dense_type_runs(DType dtype) {
  constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                              DType::kQ8_0, DType::kQ4_0, DType::kQ6_K};
  return std::find(std::begin(kTypes), std::end(kTypes), dtype) != std::end(kTypes);
}

int64_t aligned_row(const DenseMatrix& matrix) {
  return (matrix.row_bytes + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
}

int64_t tile_bytes(const TernarySource& linear) {
  const int64_t k_tiles = (linear.cols() + kPad - 1) / kPad;
  return (linear.rows() + 15) / 16 * k_tiles * 512;
}

int64_t int8_groups(const DenseMatrix& head) {
  return (head.rows + 15) / 16;
}
int64_t int8_cols(const DenseMatrix& head) {
  return (head.cols + kPad - 1) / kPad * kPad;
}

/// What travels to the GPU, but for norms and scales, which are less than 1 % of it.
int64_t upload_bytes(const Model::Impl& model) {
  int64_t bytes = aligned_row(model.embedding) * model.embedding.rows;
  if (!model.checkpoint.config().tied_head) bytes += aligned_row(model.head) * model.head.rows;
  for (const std::string& name : model.checkpoint.linear_names())
    bytes += tile_bytes(model.checkpoint.linear(name));
  return bytes;
}

void check_room(const Model::Impl& model) {
  const int64_t needed = upload_bytes(model) + int8_groups(model.head) * 16 * int8_cols(model.head);
  const int64_t free_bytes = table().memory().free_bytes;
  if (needed + needed / 100 <= free_bytes) return;
  throw Error(ErrorCode::kOutOfMemory,
              fmt::format("the weights need {} bytes of GPU memory, but {} are free", needed, free_bytes),
              "free memory on that GPU, choose another with --device cuda:N, or use --device cpu");
}

DeviceLinear upload_linears(Uploader& uploader, const std::vector<const Linear*>& linears, bool paired) {
  DeviceLinear device;
  std::vector<const PackedTernary*> parts;
  for (const Linear* linear : linears) parts.push_back(&linear->weight);
  device.tiles = uploader.tiles(parts, paired, device.weights, device.row_scales);
  if (linears.size() == 1) device.norm_in = uploader.vector(linears.front()->norm_in);
  return device;
}

DeviceLayer upload_layer(Uploader& uploader, const Layer& layer, bool projection_norms) {
  DeviceLayer device;
  device.attn_norm = uploader.vector(layer.attn_norm);
  device.attn_sub_norm = uploader.vector(layer.attn_sub_norm);
  device.ffn_norm = uploader.vector(layer.ffn_norm);
  device.ffn_sub_norm = uploader.vector(layer.ffn_sub_norm);
  if (projection_norms) {
    for (const Linear* linear : {&layer.q, &layer.k, &layer.v})
      device.qkv.push_back(upload_linears(uploader, {linear}, false));
    for (const Linear* linear : {&layer.gate, &layer.up})
      device.gate_up.push_back(upload_linears(uploader, {linear}, false));
  } else {
    device.qkv.push_back(upload_linears(uploader, {&layer.q, &layer.k, &layer.v}, false));
    device.gate_up.push_back(upload_linears(uploader, {&layer.gate, &layer.up}, true));
  }
  device.attn_output = upload_linears(uploader, {&layer.attn_output}, false);
  device.down = upload_linears(uploader, {&layer.down}, false);
  return device;
}

DenseRows dense_rows(const DenseMatrix& matrix, const DeviceBuffer& rows) {
  return {.dtype = matrix.dtype,
          .rows = rows.data(),
          .row_bytes = aligned_row(matrix),
          .count = matrix.rows,
          .cols = matrix.cols};
}

/// Made from the resident head, on the GPU.
void round_head(const DenseMatrix& matrix, CudaModel& device) {
  const int64_t groups = int8_groups(matrix), rows = groups * 16;
  device.int8_tiles = DeviceBuffer(static_cast<size_t>(rows * int8_cols(matrix)));
  device.int8_bounds = DeviceBuffer(static_cast<size_t>(3 * rows) * sizeof(float));
  auto* const bounds = device.int8_bounds.as<float>();
  device.int8_head = {.tiles = device.int8_tiles.as<int8_t>(),
                      .scale = bounds,
                      .error = bounds + rows,
                      .norm = bounds + 2 * rows,
                      .groups = groups,
                      .blocks = int8_cols(matrix) / 64};
  const OwnedStream stream;
  table().round_head(device.head, device.int8_head, stream.get());
  table().synchronize(stream.get());
}

DeviceBuffer step_layers(const std::vector<DeviceLayer>& layers) {
  std::vector<StepLayer> steps;
  for (const DeviceLayer& layer : layers) {
    const std::array<const DeviceLinear*, 4> linears{&layer.qkv[0], &layer.attn_output, &layer.gate_up[0],
                                                     &layer.down};
    const std::array<const DeviceBuffer*, 4> norms{&layer.attn_norm, &layer.attn_sub_norm, &layer.ffn_norm,
                                                   &layer.ffn_sub_norm};
    StepLayer step = {};
    for (size_t m = 0; m < linears.size(); ++m) {
      step.tiles[m] = linears[m]->weights.tiles;
      step.row_scales[m] = linears[m]->weights.row_scale;
      step.norms[m] = norms[m]->as<float>();
    }
    steps.push_back(step);
  }
  DeviceBuffer device(steps.size() * sizeof(StepLayer));
  const OwnedStream stream;
  table().to_device(device.data(), steps.data(), device.bytes(), stream.get());
  table().synchronize(stream.get());
  return device;
}

void upload_layers(const Model::Impl& model, int threads, Uploader& uploader, CudaModel& device) {
  const ModelConfig& config = model.checkpoint.config();
  const auto add = [&](const Layer& layer) {
    device.layers.push_back(upload_layer(uploader, layer, config.projection_norms));
  };
  if (const HostWeights* host = model.host_if_made()) {
    for (const Layer& layer : host->layers) add(layer);
    return;
  }
  LayerReader reader(model.checkpoint, threads, {}, nullptr, {});
  for (int64_t i = 0; i < config.num_layers; ++i) add(reader.read(i));
}

std::shared_ptr<const CudaModel> upload(const Model::Impl& model, int index, const SessionOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  check_room(model);
  const int64_t before = table().memory().free_bytes;
  const ModelConfig& config = model.checkpoint.config();
  auto device = std::make_shared<CudaModel>();
  device->device = index;
  Uploader uploader(options.threads, upload_bytes(model), options.progress);
  upload_layers(model, options.threads, uploader, *device);
  device->embedding_rows = uploader.rows(model.embedding, aligned_row(model.embedding));
  device->embedding = dense_rows(model.embedding, device->embedding_rows);
  if (config.tied_head) {
    device->head = device->embedding;
  } else {
    device->head_rows = uploader.rows(model.head, aligned_row(model.head));
    device->head = dense_rows(model.head, device->head_rows);
  }
  device->output_norm = uploader.vector(model.output_norm);
  device->inv_freq = uploader.vector(model.inv_freq);
  uploader.finish();
  for (const DenseMatrix* matrix : {&model.embedding, &model.head}) MappedFile::drop_resident(matrix->bytes);
  round_head(model.head, *device);
  if (!config.projection_norms) device->step_layers = step_layers(device->layers);
  device->bytes = before - table().memory().free_bytes;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  log_message(LogLevel::kInfo, fmt::format("cuda:{}: {} bytes of weights uploaded in {:.2f} s", index,
                                           device->bytes, elapsed.count()));
  return device;
}

}  // namespace

std::string unsupported_reason(const Model::Impl& model) {
  const ModelConfig& config = model.checkpoint.config();
  if (config.head_dim > kMaxHeadDim)
    return fmt::format("heads of {} elements; the GPU kernels take up to {}", config.head_dim, kMaxHeadDim);
  if (std::max({config.hidden_size, config.intermediate_size, config.q_size()}) > kMostCols)
    return fmt::format("a linear layer is wider than {} columns", kMostCols);
  for (const DType dtype : {model.embedding.dtype, model.head.dtype}) {
    if (!dense_type_runs(dtype))
      return fmt::format("the GPU has no kernel for an embedding or head of type {}", to_string(dtype));
  }
  return {};
}

std::shared_ptr<const CudaModel> model_on_device(const Model::Impl& model, int index,
                                                 const SessionOptions& options) {
  const std::scoped_lock lock(model.device_copies.mutex);
  std::weak_ptr<const CudaModel>& slot = model.device_copies.cuda[index];
  std::shared_ptr<const CudaModel> device = slot.lock();
  if (device == nullptr) {
    device = upload(model, index, options);
    slot = device;
  }
  return device;
}

}  // namespace bitnet::cuda
