#include "inference/kv_cache.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "inference/model_impl.h"

#include <cstring>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace {

size_t cache_bytes(const ModelConfig& config, int64_t context, int64_t element_bytes) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(config.num_layers * config.kv_size() * element_bytes, context, &bytes)) {
    throw Error(ErrorCode::kOutOfMemory, fmt::format("a KV cache of {} tokens overflows 64 bits", context),
                "ask for a smaller context");
  }
  return static_cast<size_t>(bytes) + kAlignment;  // vector loads may read past the last row
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t context, DType dtype)
    : dtype_(dtype),
      layers_(config.num_layers),
      context_(context),
      kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      kv_size_(config.kv_size()),
      element_bytes_(dtype_info(dtype).block_bytes) {
  if (dtype != DType::kF32 && dtype != DType::kF16) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the KV cache is f32 or f16, not {}", to_string(dtype)));
  }
  const size_t bytes = cache_bytes(config, context, element_bytes_);
  keys_ = AlignedBuffer(bytes, HugePages::kAvoided);
  values_ = AlignedBuffer(bytes, HugePages::kAvoided);
}

void KvCache::store_row(const kernels::KernelTable& table, std::byte* destination, const float* values) {
  if (dtype_ == DType::kF16) {
    table.store_f16(values, reinterpret_cast<uint16_t*>(destination), kv_size_);
  } else {
    std::memcpy(destination, values, static_cast<size_t>(kv_size_) * sizeof(float));
  }
}

void KvCache::store(const kernels::KernelTable& table, int64_t layer, int64_t position, const float* k,
                    const float* v) {
  store_row(table, keys_.data() + offset(layer, position), k);
  store_row(table, values_.data() + offset(layer, position), v);
}

void KvCache::shift(const kernels::KernelTable& table, int64_t from, int64_t end, int64_t count,
                    std::span<const float> inv_freq) {
  std::vector<float> cos(inv_freq.size()), sin(inv_freq.size());
  rope_angles(inv_freq, -static_cast<float>(count), cos.data(), sin.data());
  const auto size = static_cast<size_t>(kv_size_);
  std::vector<float> row(size);
  for (int64_t layer = 0; layer < layers_; ++layer) {
    for (int64_t position = from; position < end; ++position) {
      const std::byte* key = keys_.data() + offset(layer, position);
      if (dtype_ == DType::kF16) {
        const auto* half = reinterpret_cast<const uint16_t*>(key);
        for (size_t i = 0; i < size; ++i) row[i] = f16_to_f32(half[i]);
      } else {
        std::memcpy(row.data(), key, size * sizeof(float));
      }
      table.rope({.x = row.data(),
                  .x_stride = kv_size_,
                  .tokens = 1,
                  .heads = kv_heads_,
                  .head_dim = head_dim_,
                  .cos = cos.data(),
                  .sin = sin.data()});
      store_row(table, keys_.data() + offset(layer, position - count), row.data());
    }
    std::memmove(values_.data() + offset(layer, from - count), values_.data() + offset(layer, from),
                 offset(0, end - from));
  }
}

}  // namespace bitnet
