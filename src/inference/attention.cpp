#include "inference/attention.h"

#include <cmath>
#include <cstring>

namespace bitnet {

Attention::Attention(const ModelConfig& config, Executor executor, int64_t context)
    : config_(config),
      executor_(executor),
      score_stride_(round_up(context, 16)),
      head_stride_(round_up(config.head_dim, 16)),
      scores_(scratch<float>(executor.pool.size() * score_stride_)),
      heads_(scratch<float>(executor.pool.size() * head_stride_)) {}

void Attention::run(int64_t layer, std::span<const BatchRow> rows, const float* q, float* out) {
  const int64_t heads = config_.num_heads, head_dim = config_.head_dim, group = heads / config_.num_kv_heads;
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  const int64_t tasks = static_cast<int64_t>(rows.size()) * heads;
  executor_.pool.run([&](int worker, int workers) {
    float* scores = scores_.as<float>() + worker * score_stride_;
    float* padded = heads_.as<float>() + worker * head_stride_;
    // Round robin: later tokens see more keys, so contiguous shares would be uneven.
    for (int64_t i = worker; i < tasks; i += workers) {
      const BatchRow& row = rows[static_cast<size_t>(i / heads)];
      const KvCache& cache = *row.cache;
      const int64_t offset = i % heads / group * head_dim * dtype_info(cache.dtype()).block_bytes;
      std::memcpy(padded, q + i * head_dim, static_cast<size_t>(head_dim) * sizeof(float));
      executor_.table.attention({.q = padded,
                                 .k = static_cast<const std::byte*>(cache.keys(layer)) + offset,
                                 .v = static_cast<const std::byte*>(cache.values(layer)) + offset,
                                 .kv_type = cache.dtype(),
                                 .kv_stride = cache.stride(),
                                 .length = row.position + 1,
                                 .head_dim = head_dim,
                                 .scale = scale,
                                 .scores = scores,
                                 .out = out + i * head_dim});
    }
  });
}

}  // namespace bitnet
