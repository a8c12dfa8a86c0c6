#include "inference/share.h"

#include "kernels/cuda_table.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet::cuda {
namespace {

/// Rows of a tile of weights: a part is cut between tiles, so that none is padded but the last.
constexpr int64_t kGrain = 16;

}  // namespace

ShareRows rows_of(const ModelConfig& config, Share share) {
  const auto part = [&](int64_t count, int64_t grain) {
    return ThreadPool::split(count, grain, share.rank, share.size);
  };
  const ShareRows::Range kv_heads = part(config.num_kv_heads, 1);
  const int64_t elements = config.q_size() / config.num_kv_heads;  // of the heads that share a key head
  return {.kv_heads = kv_heads,
          .attention = {kv_heads.begin * elements, kv_heads.end * elements},
          .hidden = part(config.hidden_size, kGrain),
          .ffn = part(config.intermediate_size, kGrain),
          .vocab = part(config.vocab_size, kGrain)};
}

ModelConfig config_of(const ModelConfig& config, Share share) {
  const ShareRows rows = rows_of(config, share);
  ModelConfig local = config;
  local.num_kv_heads = rows.kv_heads.end - rows.kv_heads.begin;
  local.num_heads = local.num_kv_heads * (config.num_heads / config.num_kv_heads);
  local.vocab_size = rows.vocab.end - rows.vocab.begin;
  return local;
}

std::string split_reason(const ModelConfig& config, int gpus) {
  if (gpus > kMostGpus) return fmt::format("at most {} GPUs share a model, not {}", kMostGpus, gpus);
  if (gpus > config.num_kv_heads) {
    return fmt::format("the model has {} key heads, which are not cut: at most as many GPUs can share it",
                       config.num_kv_heads);
  }
  const int64_t narrowest = std::min({config.hidden_size, config.intermediate_size, config.vocab_size});
  if (narrowest < gpus * kGrain)
    return fmt::format("{} rows give {} GPUs fewer than a tile of {} each", narrowest, gpus, kGrain);
  return {};
}

}  // namespace bitnet::cuda
