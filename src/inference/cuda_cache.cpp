#include "inference/cuda_cache.h"

#include "bitnet/core/error.h"
#include "inference/prefix_cache.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <fmt/format.h>

namespace bitnet::cuda {
namespace {

/// Of keys, and of values.
size_t cache_bytes(const ModelConfig& config, int64_t positions, DType kv_type) {
  if (kv_type != DType::kF32 && kv_type != DType::kF16 && kv_type != DType::kI8) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the KV cache is f32, f16 or i8, not {}", to_string(kv_type)));
  }
  int64_t position_bytes = kv_row(config) * dtype_info(kv_type).block_bytes;
  if (kv_type == DType::kI8) position_bytes += config.num_kv_heads * int64_t{sizeof(float)};
  int64_t bytes = 0;
  if (__builtin_mul_overflow(config.num_layers * position_bytes, positions, &bytes)) {
    throw Error(ErrorCode::kOutOfMemory, fmt::format("a KV cache of {} tokens overflows 64 bits", positions),
                "ask for a smaller context");
  }
  return static_cast<size_t>(bytes);
}

int64_t positions_of(int64_t context, DType kv_type) {
  constexpr int64_t kFour = 4;  // i8 values lie side by side
  return kv_type == DType::kI8 ? (context + kFour - 1) / kFour * kFour : context;
}

/// Copies an element of type T one way or the other.
template <class T>
void move(std::byte* host, std::byte* device, bool to_host) {
  std::memcpy(to_host ? host : device, to_host ? device : host, sizeof(T));
}

}  // namespace

Heads heads_of(const ModelConfig& config) {
  return {.heads = config.num_heads, .kv_heads = config.num_kv_heads, .head_dim = config.head_dim};
}

int64_t kv_row(const ModelConfig& config) {
  return config.num_kv_heads * kv_head_stride(config.head_dim);
}

CudaCache::CudaCache(const Model::Impl& model, int device, int64_t context, DType kv_type)
    : model_(model),
      device_(device),
      context_(context),
      positions_(positions_of(context, kv_type)),
      kv_type_(kv_type) {
  table().use_device(device);
  const size_t bytes = cache_bytes(model.checkpoint.config(), positions_, kv_type);
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

void CudaCache::exchange_layer(KvCache& host, int64_t layer, int64_t count, bool to_host,
                               Stream stream) const {
  const ModelConfig& config = model_.checkpoint.config();
  const bool i8 = kv_type_ == DType::kI8;
  const int64_t stride = kv_head_stride(config.head_dim), element = host.element_bytes();
  // Elements from one dimension to the next, and from a position to the next, of values of kI8 by fours.
  const int64_t value_step = i8 ? 4 : 1;
  const auto bytes = static_cast<size_t>(positions_of(count, kv_type_) * kv_row(config) * element);
  const auto layer_bytes = static_cast<int64_t>(positions_ * kv_row(config) * element);
  const auto scale_count = static_cast<size_t>(i8 ? config.num_kv_heads * positions_ : 0);
  struct Side {
    std::byte* device;
    float* device_scales;
    std::vector<std::byte> elements;
    std::vector<float> scales;
  };
  const auto side = [&](const DeviceBuffer& buffer) {
    auto* const scales = reinterpret_cast<float*>(buffer.as<std::byte>() + config.num_layers * layer_bytes);
    return Side{buffer.as<std::byte>() + layer * layer_bytes,
                scales + static_cast<size_t>(layer) * scale_count, std::vector<std::byte>(bytes),
                std::vector<float>(scale_count)};
  };
  Side keys = side(keys_), values = side(values_);
  for (Side* each : {&keys, &values}) {  // scales always: those of other positions stay
    if (to_host) table().to_host(each->elements.data(), each->device, bytes, stream);
    table().to_host(each->scales.data(), each->device_scales, scale_count * sizeof(float), stream);
  }
  table().synchronize(stream);
  for (int64_t position = 0; position < count; ++position) {
    for (int64_t head = 0; head < config.num_kv_heads; ++head) {
      const KvCache::Place place(host, layer, head, position);
      std::byte* const k = keys.elements.data() + (position * config.num_kv_heads + head) * stride * element;
      std::byte* const v = values.elements.data() +
                           ((position / value_step * config.num_kv_heads + head) * stride * value_step +
                            position % value_step) *
                               element;
      for (int64_t d = 0; d < config.head_dim; ++d) {
        const auto both = [&](auto type) {
          move<decltype(type)>(place.key(d), k + d * element, to_host);
          move<decltype(type)>(place.value(d), v + d * value_step * element, to_host);
        };
        element == 4 ? both(uint32_t{}) : element == 2 ? both(uint16_t{}) : both(uint8_t{});
      }
      if (!i8) continue;
      const auto scale = static_cast<size_t>(head * positions_ + position);
      float &key_scale = keys.scales[scale], &value_scale = values.scales[scale];
      (to_host ? place.key_scale() : key_scale) = to_host ? key_scale : place.key_scale();
      (to_host ? place.value_scale() : value_scale) = to_host ? value_scale : place.value_scale();
    }
  }
  if (to_host) return;
  for (const Side* each : {&keys, &values}) {
    table().to_device(each->device, each->elements.data(), bytes, stream);
    table().to_device(each->device_scales, each->scales.data(), scale_count * sizeof(float), stream);
  }
  table().synchronize(stream);
}

void CudaCache::exchange(KvCache& host, int64_t count, bool to_host) const {
  table().use_device(device_);
  const OwnedStream stream;
  for (int64_t layer = 0; count > 0 && layer < model_.checkpoint.config().num_layers; ++layer)
    exchange_layer(host, layer, count, to_host, stream.get());
}

void CudaCache::save(const std::filesystem::path& path, std::span<const int32_t> tokens) const {
  const int64_t count = std::ssize(tokens);
  KvCache host(model_.checkpoint.config(), std::max<int64_t>(count, 1), kv_type_);
  exchange(host, count, true);
  save_prefix(path, model_, host, tokens);
}

std::vector<int32_t> CudaCache::load(const std::filesystem::path& path) {
  KvCache host(model_.checkpoint.config(), context_, kv_type_);
  std::vector<int32_t> tokens = load_prefix(path, model_, host);
  exchange(host, std::ssize(tokens), false);
  return tokens;
}

void CudaCache::shift(int64_t from, int64_t end, int64_t count) {
  table().use_device(device_);
  const size_t half = model_.inv_freq.size();
  std::vector<float> angles(2 * half);
  rope_angles(model_.inv_freq, -static_cast<float>(count), angles.data(), angles.data() + half);
  const DeviceBuffer device(angles.size() * sizeof(float));
  const OwnedStream stream;
  table().to_device(device.data(), angles.data(), device.bytes(), stream.get());
  if (kv_type_ == DType::kI8)
    return shift_i8(from, end, count, device.as<float>(), device.as<float>() + half, stream.get());
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

void CudaCache::shift_i8(int64_t from, int64_t end, int64_t count, const float* cos, const float* sin,
                         Stream stream) {
  table().i8_shift({.keys = keys_.data(),
                    .values = values_.data(),
                    .heads = heads_of(model_.checkpoint.config()),
                    .positions = positions_,
                    .layers = model_.checkpoint.config().num_layers,
                    .from = from,
                    .end = end,
                    .count = count,
                    .cos = cos,
                    .sin = sin},
                   stream);
  table().synchronize(stream);
}

}  // namespace bitnet::cuda
