#include "inference/cuda_model.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/core/mapped_file.h"
#include "inference/cuda_upload.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>
#include <span>
#include <utility>

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

int64_t tile_bytes(int64_t rows, int64_t cols) {
  return (rows + 15) / 16 * ((cols + kPad - 1) / kPad) * 512;
}

int64_t int8_groups(const DenseMatrix& head) {
  return (head.rows + 15) / 16;
}
int64_t int8_cols(const DenseMatrix& head) {
  return (head.cols + kPad - 1) / kPad * kPad;
}

int64_t size_of(ShareRows::Range range) {
  return range.end - range.begin;
}

/// The head's rows of a share.
DenseMatrix head_of(const Model::Impl& model, ShareRows::Range vocab) {
  DenseMatrix head = model.head;
  head.rows = size_of(vocab);
  head.bytes = head.bytes.subspan(static_cast<size_t>(vocab.begin * head.row_bytes),
                                  static_cast<size_t>(head.rows * head.row_bytes));
  return head;
}

/// What travels to a GPU, but for norms and scales, which are less than 1 % of it.
int64_t upload_bytes(const Model::Impl& model, Share share) {
  const ShareRows rows = rows_of(model.checkpoint.config(), share);
  const ModelConfig& whole = model.checkpoint.config();
  const ModelConfig config = config_of(whole, share);
  const int64_t hidden = size_of(rows.hidden), ffn = size_of(rows.ffn);
  const int64_t layer = tile_bytes(config.q_size() + 2 * config.kv_size(), config.hidden_size) +
                        tile_bytes(hidden, whole.q_size()) + tile_bytes(2 * ffn, config.hidden_size) +
                        tile_bytes(hidden, config.intermediate_size);
  const int64_t head = aligned_row(model.head) * config.vocab_size;
  if (!share.alone()) return config.num_layers * layer + head;
  const int64_t embedding = aligned_row(model.embedding) * model.embedding.rows;
  return config.num_layers * layer + embedding + (config.tied_head ? 0 : head);
}

void check_room(const Model::Impl& model, int index, Share share) {
  const DenseMatrix head = head_of(model, rows_of(model.checkpoint.config(), share).vocab);
  const int64_t needed = upload_bytes(model, share) + int8_groups(head) * 16 * int8_cols(head);
  const int64_t free_bytes = table().memory().free_bytes;
  if (needed + needed / 100 <= free_bytes) return;
  throw Error(ErrorCode::kOutOfMemory,
              fmt::format("the weights need {} bytes of the memory of cuda:{}, but {} are free", needed,
                          index, free_bytes),
              share.alone()
                  ? "free memory on that GPU, choose another with --device cuda:N, split the model over "
                    "several with --device cuda:0,1, or use --device cpu"
                  : "free memory on that GPU, name more GPUs, or use --device cpu");
}

/// Rows of a linear layer.
struct LinearRows {
  const Linear* linear;
  ShareRows::Range rows;
};

DeviceLinear upload_linears(Uploader& uploader, const std::vector<LinearRows>& linears, bool paired) {
  DeviceLinear device;
  std::vector<TernaryRows> parts;
  for (const auto& [linear, rows] : linears) parts.emplace_back(&linear->weight, rows.begin, size_of(rows));
  device.tiles = uploader.tiles(parts, paired, device.weights, device.row_scales);
  if (linears.size() == 1) device.norm_in = uploader.vector(linears.front().linear->norm_in);
  return device;
}

DeviceLayer upload_layer(Uploader& uploader, const Layer& layer, const ModelConfig& config,
                         const ShareRows& rows) {
  DeviceLayer device;
  device.attn_norm = uploader.vector(layer.attn_norm);
  device.attn_sub_norm = uploader.vector(layer.attn_sub_norm);
  device.ffn_norm = uploader.vector(layer.ffn_norm);
  device.ffn_sub_norm = uploader.vector(layer.ffn_sub_norm);
  const ShareRows::Range kv{rows.kv_heads.begin * config.head_dim, rows.kv_heads.end * config.head_dim};
  const std::vector<LinearRows> qkv{{&layer.q, rows.attention}, {&layer.k, kv}, {&layer.v, kv}};
  const std::vector<LinearRows> gate_up{{&layer.gate, rows.ffn}, {&layer.up, rows.ffn}};
  if (config.projection_norms) {
    for (const LinearRows& linear : qkv) device.qkv.push_back(upload_linears(uploader, {linear}, false));
    for (const LinearRows& linear : gate_up)
      device.gate_up.push_back(upload_linears(uploader, {linear}, false));
  } else {
    device.qkv.push_back(upload_linears(uploader, qkv, false));
    device.gate_up.push_back(upload_linears(uploader, gate_up, true));
  }
  device.attn_output = upload_linears(uploader, {{&layer.attn_output, rows.hidden}}, false);
  device.down = upload_linears(uploader, {{&layer.down, rows.hidden}}, false);
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

void upload_dense(Uploader& uploader, const Model::Impl& model, CudaModel& device) {
  const DenseMatrix head = head_of(model, device.rows.vocab);
  if (device.share.alone()) {
    device.embedding_rows = uploader.rows(model.embedding, aligned_row(model.embedding));
    device.embedding = dense_rows(model.embedding, device.embedding_rows);
  }
  if (device.share.alone() && device.config.tied_head) {
    device.head = device.embedding;
  } else {
    device.head_rows = uploader.rows(head, aligned_row(head));
    device.head = dense_rows(head, device.head_rows);
  }
  device.output_norm = uploader.vector(model.output_norm);
  device.inv_freq = uploader.vector(model.inv_freq);
  uploader.finish();
  round_head(head, device);
}

/// A share on its way to its GPU.
struct Upload {
  Upload(const Model::Impl& model, const SharePlace& place, int threads, OnProgress progress)
      : uploader(threads, upload_bytes(model, place.share), std::move(progress)) {
    check_room(model, place.device, place.share);
    free_before = table().memory().free_bytes;
    device->device = place.device;
    device->share = place.share;
    device->rows = rows_of(model.checkpoint.config(), place.share);
    device->config = config_of(model.checkpoint.config(), place.share);
  }

  Uploader uploader;
  int64_t free_before = 0;
  std::shared_ptr<CudaModel> device = std::make_shared<CudaModel>();
};

/// Each layer is read once, for all shares.
void upload_layers(const Model::Impl& model, int threads, std::span<const std::unique_ptr<Upload>> uploads) {
  const ModelConfig& config = model.checkpoint.config();
  const auto add = [&](const Layer& layer) {
    for (const auto& upload : uploads) {
      CudaModel& device = *upload->device;
      table().use_device(device.device);
      device.layers.push_back(upload_layer(upload->uploader, layer, config, device.rows));
    }
  };
  if (const HostWeights* host = model.host_if_made()) {
    for (const Layer& layer : host->layers) add(layer);
    return;
  }
  LayerReader reader(model.checkpoint, threads, {}, nullptr, {});
  for (int64_t i = 0; i < config.num_layers; ++i) add(reader.read(i));
}

std::vector<std::shared_ptr<const CudaModel>> upload(const Model::Impl& model,
                                                     std::span<const SharePlace> places,
                                                     const SessionOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<int64_t> done(places.size());
  int64_t total = 0;
  for (const SharePlace& place : places) total += upload_bytes(model, place.share);
  std::vector<std::unique_ptr<Upload>> uploads;
  for (size_t i = 0; i < places.size(); ++i) {
    const OnProgress progress = [&done, &options, i, total](int64_t bytes, int64_t) {
      done[i] = bytes;
      if (options.progress) options.progress(std::accumulate(done.begin(), done.end(), int64_t{0}), total);
    };
    table().use_device(places[i].device);
    uploads.push_back(std::make_unique<Upload>(model, places[i], options.threads, progress));
  }
  upload_layers(model, options.threads, uploads);
  std::vector<std::shared_ptr<const CudaModel>> devices;
  for (const auto& each : uploads) {
    CudaModel& device = *each->device;
    table().use_device(device.device);
    upload_dense(each->uploader, model, device);
    if (!device.config.projection_norms && device.share.alone())
      device.step_layers = step_layers(device.layers);
    device.bytes = each->free_before - table().memory().free_bytes;
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    log_message(LogLevel::kInfo,
                fmt::format("cuda:{}: {} bytes of weights uploaded in {:.2f} s{}", device.device,
                            device.bytes, elapsed.count(),
                            device.share.alone()
                                ? ""
                                : fmt::format(", share {} of {}", device.share.rank + 1, device.share.size)));
    devices.push_back(each->device);
  }
  for (const DenseMatrix* matrix : {&model.embedding, &model.head}) MappedFile::drop_resident(matrix->bytes);
  return devices;
}

}  // namespace

int64_t aligned_row(const DenseMatrix& matrix) {
  return (matrix.row_bytes + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
}

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

std::vector<std::shared_ptr<const CudaModel>> models_on_devices(const Model::Impl& model,
                                                                std::span<const SharePlace> places,
                                                                const SessionOptions& options) {
  const std::scoped_lock lock(model.device_copies.mutex);
  std::vector<std::shared_ptr<const CudaModel>> devices;
  const auto find = [&] {
    devices.clear();
    for (const SharePlace& place : places) devices.push_back(model.device_copies.cuda[place].lock());
    return std::find(devices.begin(), devices.end(), nullptr) == devices.end();
  };
  if (find()) return devices;
  std::vector<SharePlace> missing;
  for (size_t i = 0; i < places.size(); ++i) {
    if (devices[i] == nullptr) missing.push_back(places[i]);
  }
  const auto made = upload(model, missing, options);
  for (size_t i = 0; i < missing.size(); ++i) model.device_copies.cuda[missing[i]] = made[i];
  (void)find();
  return devices;
}

std::shared_ptr<const CudaModel> model_on_device(const Model::Impl& model, int index,
                                                 const SessionOptions& options, Share share) {
  const SharePlace place{index, share};
  return models_on_devices(model, {&place, 1}, options).front();
}

}  // namespace bitnet::cuda
