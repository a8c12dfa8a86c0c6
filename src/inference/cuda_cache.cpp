#include "inference/cuda_cache.h"

#include "bitnet/core/error.h"
#include "inference/prefix_cache.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>
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

/// Keys or values of a layer, on their way between the two layouts.
struct LayerSide {
  std::byte* device;
  float* device_scales;
  std::vector<std::byte> elements;
  std::vector<float> scales;
};

/// Elements of one head at one position; `step` bytes from one dimension to the next.
struct HeadRow {
  std::byte* first;
  int64_t step;
};

/// Copies a head's key and value one way or the other.
void move_head(const KvCache::Place& place, const HeadRow& key, const HeadRow& value, int64_t head_dim,
               int64_t element_bytes, bool to_host) {
  const auto move = [&](std::byte* host, std::byte* device, auto size) {
    std::memcpy(to_host ? host : device, to_host ? device : host, size.value);
  };
  const auto move_all = [&](auto size) {
    for (int64_t d = 0; d < head_dim; ++d) {
      move(place.key(d), key.first + d * key.step, size);
      move(place.value(d), value.first + d * value.step, size);
    }
  };
  if (element_bytes == 4) return move_all(std::integral_constant<size_t, 4>{});
  if (element_bytes == 2) return move_all(std::integral_constant<size_t, 2>{});
  move_all(std::integral_constant<size_t, 1>{});
}

void move_scale(float& host, float& device, bool to_host) {
  (to_host ? host : device) = to_host ? device : host;
}

}  // namespace

Heads heads_of(const ModelConfig& config) {
  return {.heads = config.num_heads, .kv_heads = config.num_kv_heads, .head_dim = config.head_dim};
}

int64_t kv_row(const ModelConfig& config) {
  return config.num_kv_heads * kv_head_stride(config.head_dim);
}

CudaCache::CudaCache(const Model::Impl& model, const CudaModel& weights, int64_t context, DType kv_type,
                     std::shared_ptr<PagePool> pool)
    : model_(model),
      config_(weights.config),
      first_head_(weights.rows.kv_heads.begin),
      device_((table().use_device(weights.device), weights.device)),
      context_(context),
      positions_(positions_of(context, kv_type)),
      kv_type_(kv_type),
      pool_(std::move(pool)),
      keys_(pool_, cache_bytes(config_, positions_, kv_type)),
      values_(pool_, keys_.bytes()) {}

void CudaCache::reserve(int64_t positions) {
  if (pool_ == nullptr || positions <= reserved_) return;
  // Kernels may read a chunk to its end.
  constexpr int64_t kChunk = kernels::kAttentionChunk;
  const int64_t wanted = std::min((positions + kChunk - 1) / kChunk * kChunk, positions_);
  const ModelConfig& config = config_;
  const int64_t row = kv_row(config) * dtype_info(kv_type_).block_bytes, layer_bytes = positions_ * row;
  table().use_device(device_);
  std::vector<size_t> key_pages, value_pages;
  const auto map = [&](PagedMemory& memory, std::vector<size_t>& added) {
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      memory.map(static_cast<size_t>(layer * layer_bytes),
                 static_cast<size_t>(layer * layer_bytes + wanted * row), added);
    }
    memory.map(static_cast<size_t>(config.num_layers * layer_bytes), memory.bytes(), added);  // scales
  };
  try {
    map(keys_, key_pages);
    map(values_, value_pages);
  } catch (Error& error) {
    keys_.unmap(key_pages);
    values_.unmap(value_pages);
    if (error.code() != ErrorCode::kOutOfMemory) throw;
    throw Error(ErrorCode::kOutOfMemory,
                fmt::format("no GPU memory for {} tokens of a sequence ({} bytes of keys and values); all "
                            "sequences hold {} bytes, {} are free",
                            wanted, 2 * config.num_layers * wanted * row, pool_->taken_bytes(),
                            table().memory().free_bytes),
                "use --kv f16 or i8, a smaller --context, or fewer sequences at once");
  }
  reserved_ = wanted;
}

KvLayer CudaCache::layer(int64_t index) const {
  const auto offset =
      static_cast<size_t>(index * context_ * kv_row(config_) * dtype_info(kv_type_).block_bytes);
  return {
      .keys = keys_.as<std::byte>() + offset, .values = values_.as<std::byte>() + offset, .dtype = kv_type_};
}

void CudaCache::copy_layer(KvCache& host, int64_t layer, int64_t count, bool to_host, Stream stream) const {
  const ModelConfig& config = config_;
  const bool i8 = kv_type_ == DType::kI8;
  const int64_t element = host.element_bytes(), head_bytes = kv_head_stride(config.head_dim) * element;
  const int64_t layer_bytes = positions_ * kv_row(config) * element, kv_heads = config.num_kv_heads;
  const auto bytes = static_cast<size_t>(positions_of(count, kv_type_) * kv_row(config) * element);
  const auto scale_count = static_cast<size_t>(i8 ? kv_heads * positions_ : 0);
  const auto side = [&](const PagedMemory& buffer) {
    auto* const scales = reinterpret_cast<float*>(buffer.as<std::byte>() + config.num_layers * layer_bytes);
    return LayerSide{buffer.as<std::byte>() + layer * layer_bytes,
                     scales + static_cast<size_t>(layer) * scale_count, std::vector<std::byte>(bytes),
                     std::vector<float>(scale_count)};
  };
  LayerSide keys = side(keys_), values = side(values_);
  for (LayerSide* each : {&keys, &values}) {  // scales always: those of other positions stay
    if (to_host) table().to_host(each->elements.data(), each->device, bytes, stream);
    table().to_host(each->scales.data(), each->device_scales, scale_count * sizeof(float), stream);
  }
  table().synchronize(stream);
  const int64_t together = i8 ? 4 : 1;  // positions of values that lie side by side
  for (int64_t position = 0; position < count; ++position) {
    for (int64_t head = 0; head < kv_heads; ++head) {
      const KvCache::Place place(host, layer, first_head_ + head, position);
      std::byte* const k = keys.elements.data() + (position * kv_heads + head) * head_bytes;
      std::byte* const v = values.elements.data() +
                           (position / together * kv_heads + head) * head_bytes * together +
                           position % together * element;
      move_head(place, {k, element}, {v, element * together}, config.head_dim, element, to_host);
      if (!i8) continue;
      const auto scale = static_cast<size_t>(head * positions_ + position);
      move_scale(place.key_scale(), keys.scales[scale], to_host);
      move_scale(place.value_scale(), values.scales[scale], to_host);
    }
  }
  if (to_host) return;
  for (const LayerSide* each : {&keys, &values}) {
    table().to_device(each->device, each->elements.data(), bytes, stream);
    table().to_device(each->device_scales, each->scales.data(), scale_count * sizeof(float), stream);
  }
  table().synchronize(stream);
}

void CudaCache::copy(KvCache& host, int64_t count, bool to_host) const {
  table().use_device(device_);
  const OwnedStream stream;
  for (int64_t layer = 0; count > 0 && layer < config_.num_layers; ++layer)
    copy_layer(host, layer, count, to_host, stream.get());
}

void CudaCache::save(const std::filesystem::path& path, std::span<const int32_t> tokens) const {
  const int64_t count = std::ssize(tokens);
  KvCache host(model_.checkpoint.config(), std::max<int64_t>(count, 1), kv_type_);
  copy(host, count, true);
  save_prefix(path, model_, host, tokens);
}

std::vector<int32_t> CudaCache::load(const std::filesystem::path& path) {
  KvCache host(model_.checkpoint.config(), context_, kv_type_);
  std::vector<int32_t> tokens = load_prefix(path, model_, host);
  reserve(std::ssize(tokens));
  copy(host, std::ssize(tokens), false);
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
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    table().shift({.cache = this->layer(layer),
                   .heads = heads_of(config_),
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
                    .heads = heads_of(config_),
                    .positions = positions_,
                    .layers = config_.num_layers,
                    .from = from,
                    .end = end,
                    .count = count,
                    .cos = cos,
                    .sin = sin},
                   stream);
  table().synchronize(stream);
}

}  // namespace bitnet::cuda
