#include "inference/kv_cache.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "inference/executor.h"
#include "inference/model_impl.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int64_t kLanes = 16;
// A head is quantized in a buffer on the stack, then spread over its block.
constexpr int64_t kMaxI8HeadDim = 1024;

AlignedBuffer cache_buffer(const ModelConfig& config, int64_t positions, int64_t position_bytes) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(config.num_layers * config.num_kv_heads * position_bytes, positions, &bytes)) {
    throw Error(ErrorCode::kOutOfMemory, fmt::format("a KV cache of {} tokens overflows 64 bits", positions),
                "ask for a smaller context");
  }
  return AlignedBuffer(static_cast<size_t>(bytes), HugePages::kAvoided);
}

/// out as QuantizeArgs defines it, and the factor that undoes it. A row that is not finite has zeros and a
/// factor that makes them NaN.
float quantize_head(const kernels::KernelTable& table, const float* x, int64_t count, int8_t* out) {
  float scale;
  int32_t sum;
  table.quantize({.x = x,
                  .x_stride = count,
                  .tokens = 1,
                  .cols = count,
                  .q = out,
                  .q_stride = kMaxI8HeadDim,
                  .scale = &scale,
                  .sum = &sum});
  return 1.0f / scale;
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t context, DType dtype)
    : dtype_(dtype),
      group_(dtype == DType::kI8 ? 4 : 1),
      layers_(config.num_layers),
      context_(context),
      kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      key_dim_(round_up(config.head_dim, group_)),
      value_dim_(round_up(config.head_dim, kLanes)),
      positions_(round_up(context, kLanes)),
      element_bytes_(dtype_info(dtype).block_bytes) {
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kI8) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the KV cache is f32, f16 or i8, not {}", to_string(dtype)));
  }
  if (dtype == DType::kI8 && head_dim_ > kMaxI8HeadDim) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("an i8 KV cache has heads of at most {} dimensions; the model's have {}",
                            kMaxI8HeadDim, head_dim_),
                "use f16");
  }
  keys_ = cache_buffer(config, positions_, key_dim_ * element_bytes_);
  values_ = cache_buffer(config, positions_, value_dim_ * element_bytes_);
  if (dtype == DType::kI8) scales_ = cache_buffer(config, positions_, 2 * sizeof(float));
}

KvCache::Chunk KvCache::chunk(int64_t layer, int64_t kv_head, int64_t start) const {
  const int64_t piece = this->piece(layer, kv_head);
  const float* scales = dtype_ == DType::kI8 ? scales_.as<float>() + 2 * piece * positions_ + start : nullptr;
  return {.keys = keys_.data() + key_index(piece, start, 0) * element_bytes_,
          .values = values_.data() + value_index(piece, start, 0) * element_bytes_,
          .key_scale = scales,
          .value_scale = scales == nullptr ? nullptr : scales + positions_};
}

void KvCache::store(const kernels::KernelTable& table, int64_t layer, int64_t position, const float* k,
                    const float* v) {
  for (int64_t head = 0; head < kv_heads_; ++head) {
    store_key(table, piece(layer, head), position, k + head * head_dim_);
    store_value(table, piece(layer, head), position, v + head * head_dim_);
  }
}

void KvCache::store_key(const kernels::KernelTable& table, int64_t piece, int64_t position, const float* k) {
  if (dtype_ == DType::kI8) {
    alignas(kAlignment) int8_t quantized[kMaxI8HeadDim];
    key_scales(piece)[position] = quantize_head(table, k, head_dim_, quantized);
    for (int64_t d = 0; d < head_dim_; ++d) keys_.as<int8_t>()[key_index(piece, position, d)] = quantized[d];
    return;
  }
  const int64_t first = key_index(piece, position, 0);
  if (dtype_ == DType::kF32) {
    float* keys = keys_.as<float>() + first;
    for (int64_t d = 0; d < head_dim_; ++d) keys[d * kLanes] = k[d];
    return;
  }
  uint16_t* keys = keys_.as<uint16_t>() + first;
  for (int64_t d = 0; d < head_dim_; d += kLanes) {
    const int64_t count = std::min(kLanes, head_dim_ - d);
    uint16_t halves[kLanes];
    table.store_f16(k + d, halves, count);
    for (int64_t i = 0; i < count; ++i) keys[(d + i) * kLanes] = halves[i];
  }
}

void KvCache::store_value(const kernels::KernelTable& table, int64_t piece, int64_t position,
                          const float* v) {
  const int64_t first = value_index(piece, position, 0);
  if (dtype_ == DType::kF32) {
    std::memcpy(values_.as<float>() + first, v, static_cast<size_t>(head_dim_) * sizeof(float));
  } else if (dtype_ == DType::kF16) {
    table.store_f16(v, values_.as<uint16_t>() + first, head_dim_);
  } else {
    alignas(kAlignment) int8_t quantized[kMaxI8HeadDim];
    value_scales(piece)[position] = quantize_head(table, v, head_dim_, quantized);
    int8_t* values = values_.as<int8_t>() + first;
    for (int64_t d = 0; d < head_dim_; ++d) values[d * group_] = quantized[d];
  }
}

void KvCache::load_key(int64_t piece, int64_t position, float* k) {
  for (int64_t d = 0; d < head_dim_; ++d) {
    const int64_t at = key_index(piece, position, d);
    if (dtype_ == DType::kF32) {
      k[d] = keys_.as<float>()[at];
    } else if (dtype_ == DType::kF16) {
      k[d] = f16_to_f32(keys_.as<uint16_t>()[at]);
    } else {
      k[d] = static_cast<float>(keys_.as<int8_t>()[at]) * key_scales(piece)[position];
    }
  }
}

void KvCache::shift_values(int64_t piece, int64_t from, int64_t end, int64_t count) {
  if (dtype_ != DType::kI8) {  // rows
    std::byte* values = values_.data();
    std::memmove(values + value_index(piece, from - count, 0) * element_bytes_,
                 values + value_index(piece, from, 0) * element_bytes_,
                 static_cast<size_t>((end - from) * value_dim_ * element_bytes_));
    return;
  }
  for (int64_t position = from; position < end; ++position) {
    const int8_t* source = values_.as<int8_t>() + value_index(piece, position, 0);
    int8_t* target = values_.as<int8_t>() + value_index(piece, position - count, 0);
    for (int64_t d = 0; d < head_dim_; ++d) target[d * group_] = source[d * group_];
    value_scales(piece)[position - count] = value_scales(piece)[position];
  }
}

void KvCache::shift(const kernels::KernelTable& table, int64_t from, int64_t end, int64_t count,
                    std::span<const float> inv_freq) {
  std::vector<float> cos(inv_freq.size()), sin(inv_freq.size());
  rope_angles(inv_freq, -static_cast<float>(count), cos.data(), sin.data());
  std::vector<float> key(static_cast<size_t>(head_dim_));
  for (int64_t piece = 0; piece < layers_ * kv_heads_; ++piece) {
    for (int64_t position = from; position < end; ++position) {
      load_key(piece, position, key.data());
      table.rope({.x = key.data(),
                  .x_stride = head_dim_,
                  .tokens = 1,
                  .heads = 1,
                  .head_dim = head_dim_,
                  .cos = cos.data(),
                  .sin = sin.data()});
      store_key(table, piece, position - count, key.data());
    }
    shift_values(piece, from, end, count);
  }
}

std::vector<std::span<std::byte>> KvCache::parts(int64_t positions) {
  std::vector<std::span<std::byte>> parts;
  const auto add = [&parts](AlignedBuffer& buffer, int64_t first, int64_t count, int64_t element_bytes) {
    parts.emplace_back(buffer.data() + first * element_bytes, static_cast<size_t>(count * element_bytes));
  };
  for (int64_t piece = 0; piece < layers_ * kv_heads_; ++piece) {
    add(keys_, key_index(piece, 0, 0), round_up(positions, kLanes) * key_dim_, element_bytes_);
    add(values_, value_index(piece, 0, 0), round_up(positions, group_) * value_dim_, element_bytes_);
    if (dtype_ != DType::kI8) continue;
    add(scales_, 2 * piece * positions_, positions, sizeof(float));
    add(scales_, (2 * piece + 1) * positions_, positions, sizeof(float));
  }
  return parts;
}

std::vector<std::span<const std::byte>> KvCache::parts(int64_t positions) const {
  std::vector<std::span<const std::byte>> parts;
  for (const std::span<std::byte> part : const_cast<KvCache*>(this)->parts(positions)) parts.push_back(part);
  return parts;
}

}  // namespace bitnet
