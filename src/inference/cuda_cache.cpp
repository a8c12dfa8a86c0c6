#include "inference/cuda_cache.h"

#include "bitnet/core/error.h"

#include <vector>

#include <fmt/format.h>

namespace bitnet::cuda {
namespace {

size_t cache_bytes(const ModelConfig& config, int64_t context, DType kv_type) {
  if (kv_type != DType::kF32 && kv_type != DType::kF16) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("on the GPU the KV cache is f32 or f16, not {}", to_string(kv_type)),
                "use --kv f16, or --device cpu");
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(config.num_layers * kv_row(config) * dtype_info(kv_type).block_bytes, context,
                             &bytes)) {
    throw Error(ErrorCode::kOutOfMemory, fmt::format("a KV cache of {} tokens overflows 64 bits", context),
                "ask for a smaller context");
  }
  return static_cast<size_t>(bytes);
}

[[noreturn]] void refuse_file(const std::filesystem::path& path) {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: a GPU's KV cache cannot be kept in a file", path.string()),
              "use --device cpu for that");
}

}  // namespace

Heads heads_of(const ModelConfig& config) {
  return {.heads = config.num_heads, .kv_heads = config.num_kv_heads, .head_dim = config.head_dim};
}

int64_t kv_row(const ModelConfig& config) {
  return config.num_kv_heads * kv_head_stride(config.head_dim);
}

CudaCache::CudaCache(const Model::Impl& model, int device, int64_t context, DType kv_type)
    : model_(model), device_(device), context_(context), kv_type_(kv_type) {
  table().use_device(device);
  const size_t bytes = cache_bytes(model.checkpoint.config(), context, kv_type);
  try {
    keys_ = DeviceBuffer(bytes);
    values_ = DeviceBuffer(bytes);
  } catch (Error& error) {
    error.with_context(fmt::format("a KV cache of {} tokens, {} bytes", context, 2 * bytes));
    throw;
  }
}

KvLayer CudaCache::layer(int64_t index) const {
  const auto offset = static_cast<size_t>(index * context_ * kv_row(model_.checkpoint.config()) *
                                          dtype_info(kv_type_).block_bytes);
  return {
      .keys = keys_.as<std::byte>() + offset, .values = values_.as<std::byte>() + offset, .dtype = kv_type_};
}

void CudaCache::save(const std::filesystem::path& path, std::span<const int32_t>) const {
  refuse_file(path);
}

std::vector<int32_t> CudaCache::load(const std::filesystem::path& path) {
  refuse_file(path);
}

void CudaCache::shift(int64_t from, int64_t end, int64_t count) {
  table().use_device(device_);
  const size_t half = model_.inv_freq.size();
  std::vector<float> angles(2 * half);
  rope_angles(model_.inv_freq, -static_cast<float>(count), angles.data(), angles.data() + half);
  const DeviceBuffer device(angles.size() * sizeof(float));
  const OwnedStream stream;
  table().to_device(device.data(), angles.data(), device.bytes(), stream.get());
  for (int64_t layer = 0; layer < model_.checkpoint.config().num_layers; ++layer) {
    table().shift({.cache = this->layer(layer),
                   .heads = heads_of(model_.checkpoint.config()),
                   .from = from,
                   .end = end,
                   .count = count,
                   .cos = device.as<float>(),
                   .sin = device.as<float>() + half},
                  stream.get());
  }
  table().synchronize(stream.get());
}

}  // namespace bitnet::cuda
