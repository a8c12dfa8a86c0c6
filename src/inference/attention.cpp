#include "inference/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace bitnet {
namespace {

using kernels::kAttentionChunk;

// Queries that share a pass over the cache: a multiple of the kernels' tile of 6, and few enough that their
// weights (48 KiB) and outputs stay in the second cache beside a chunk. benchmarks/kernels,
// attention/prefill.
constexpr int64_t kTileQueries = 48;
// Up to so many tokens, chunks are computed apart: that takes memory for each query and chunk.
constexpr int64_t kSplitTokens = 16;
// Tasks per thread, so that the last ones to finish do not leave the others idle for long.
constexpr int64_t kTasksPerThread = 4;

constexpr int64_t div_up(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

}  // namespace

Attention::Attention(const ModelConfig& config, Executor executor, int64_t context)
    : config_(config),
      executor_(executor),
      group_(config.num_heads / config.num_kv_heads),
      value_dim_(round_up(config.head_dim, 16)),
      stride8_(round_up(config.head_dim, 64)),
      scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)))),
      tasks_left_(
          std::make_unique<std::atomic<int64_t>[]>(static_cast<size_t>(kSplitTokens * config.num_heads))),
      states_(kSplitTokens * config.num_heads * div_up(context, kAttentionChunk), value_dim_),
      totals_(executor.pool.size() * kTileQueries, value_dim_),
      parts_(executor.pool.size() * kTileQueries, value_dim_),
      queries_(scratch<float>(executor.pool.size() * kTileQueries * config.head_dim)),
      weights_(scratch<float>(executor.pool.size() * kTileQueries * kAttentionChunk)),
      queries8_(scratch<int8_t>(executor.pool.size() * kTileQueries * stride8_)),
      query_scale_(scratch<float>(executor.pool.size() * kTileQueries)),
      query_sum_(scratch<int32_t>(executor.pool.size() * kTileQueries)) {}

void Attention::run(int64_t layer, std::span<const BatchRow> rows, const float* q, float* out) {
  plan(rows);
  const Pass pass{layer, rows, q, out};
  executor_.pool.run([&](int worker, int) {
    for (;;) {
      const size_t i = next_task_.fetch_add(1, std::memory_order_relaxed);
      if (i >= tasks_.size()) return;
      if (split_) {
        some_chunks(pass, tasks_[i], worker);
      } else {
        whole_tile(pass, tiles_[tasks_[i].tile], worker);
      }
    }
  });
}

void Attention::plan(std::span<const BatchRow> rows) {
  const int64_t tokens = std::ssize(rows), workers = executor_.pool.size();
  split_ = workers > 1 && tokens <= kSplitTokens;
  tiles_.clear();
  tasks_.clear();
  next_task_.store(0, std::memory_order_relaxed);
  for (int64_t begin = 0, end = 0; begin < tokens; begin = end) {
    const KvCache* cache = rows[static_cast<size_t>(begin)].cache;
    while (end < tokens && rows[static_cast<size_t>(end)].cache == cache) ++end;
    add_tiles(rows, begin, end, div_up(kTasksPerThread * workers * (end - begin), tokens));
  }
  int64_t chunks = 0;
  for (const Tile& tile : tiles_) chunks += tile.chunks;
  const int64_t share = split_ ? std::max<int64_t>(chunks / (kTasksPerThread * workers), 1) : chunks;
  for (size_t i = tiles_.size(); i-- > 0;) {  // later tokens see more: the longest tasks first
    if (split_) tasks_left_[i].store(div_up(tiles_[i].chunks, share), std::memory_order_relaxed);
    for (int64_t chunk = 0; chunk < tiles_[i].chunks; chunk += share)
      tasks_.push_back({i, chunk, std::min(chunk + share, tiles_[i].chunks)});
  }
}

/// Tiles of the sequence whose rows are [begin, end), as large as `wanted_tasks` lets them be.
void Attention::add_tiles(std::span<const BatchRow> rows, int64_t begin, int64_t end, int64_t wanted_tasks) {
  const BatchRow& last = rows[static_cast<size_t>(end - 1)];
  const int64_t chunks = split_ ? div_up(last.position + 1, kAttentionChunk) : 1;
  const int64_t queries = (end - begin) * group_;
  const int64_t tiles_wanted = div_up(wanted_tasks, config_.num_kv_heads * chunks);
  const int64_t tile_queries = std::min(div_up(queries, tiles_wanted), kTileQueries);
  int64_t state = tiles_.empty() ? 0 : tiles_.back().state + tiles_.back().count * tiles_.back().chunks;
  for (int64_t done = 0; done < queries; done += tile_queries) {
    const int64_t first = begin * group_ + done, count = std::min(tile_queries, queries - done);
    const int64_t seen = rows[static_cast<size_t>((first + count - 1) / group_)].position + 1;
    for (int64_t kv_head = 0; kv_head < config_.num_kv_heads; ++kv_head) {
      tiles_.push_back({last.cache, kv_head, first, count, div_up(seen, kAttentionChunk), state});
      state += count * tiles_.back().chunks;
    }
  }
}

int64_t Attention::length(const Pass& pass, const Tile& tile, int64_t query) const {
  return pass.rows[static_cast<size_t>((tile.first + query) / group_)].position + 1;
}

/// The first query of the tile that sees the chunk; all after it do too.
int64_t Attention::first_query(const Pass& pass, const Tile& tile, int64_t chunk) const {
  int64_t query = 0;
  while (length(pass, tile, query) <= chunk * kAttentionChunk) ++query;
  return query;
}

void Attention::whole_tile(const Pass& pass, const Tile& tile, int worker) {
  const int64_t base = worker * kTileQueries;
  pack_queries(pass, tile, 0, worker);
  compute(pass, tile, 0, 0, worker, totals_.from(base));
  for (int64_t chunk = 1; chunk < tile.chunks; ++chunk) {
    const int64_t first = first_query(pass, tile, chunk);
    compute(pass, tile, chunk, first, worker, parts_.from(base));
    executor_.table.attention_merge({.total = totals_.from(base + first),
                                     .part = parts_.from(base),
                                     .rows = tile.count - first,
                                     .head_dim = config_.head_dim});
  }
  finish(pass, tile, totals_.from(base));
}

void Attention::some_chunks(const Pass& pass, const Task& task, int worker) {
  const Tile& tile = tiles_[task.tile];
  const auto state = [&](int64_t chunk) {
    return states_.from(tile.state + chunk * tile.count + first_query(pass, tile, chunk));
  };
  pack_queries(pass, tile, first_query(pass, tile, task.first_chunk), worker);
  for (int64_t chunk = task.first_chunk; chunk < task.last_chunk; ++chunk)
    compute(pass, tile, chunk, first_query(pass, tile, chunk), worker, state(chunk));
  // Each thread's states happen before the last one's decrement.
  if (tasks_left_[task.tile].fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  for (int64_t chunk = 1; chunk < tile.chunks; ++chunk) {
    const int64_t first = first_query(pass, tile, chunk);
    executor_.table.attention_merge({.total = states_.from(tile.state + first),
                                     .part = state(chunk),
                                     .rows = tile.count - first,
                                     .head_dim = config_.head_dim});
  }
  finish(pass, tile, states_.from(tile.state));
}

/// Queries [first, tile.count), each to its place in the worker's scratch.
void Attention::pack_queries(const Pass& pass, const Tile& tile, int64_t first, int worker) {
  const int64_t head_dim = config_.head_dim;
  for (int64_t i = first; i < tile.count; ++i) {
    const int64_t query = tile.first + i, row = worker * kTileQueries + i;
    const int64_t head = tile.kv_head * group_ + query % group_;
    const float* q = pass.q + query / group_ * config_.q_size() + head * head_dim;
    if (tile.cache->dtype() != DType::kI8) {
      std::memcpy(queries_.as<float>() + row * head_dim, q, static_cast<size_t>(head_dim) * sizeof(float));
      continue;
    }
    float* scale = query_scale_.as<float>() + row;
    executor_.table.quantize({.x = q,
                              .x_stride = head_dim,
                              .tokens = 1,
                              .cols = head_dim,
                              .q = queries8_.as<int8_t>() + row * stride8_,
                              .q_stride = stride8_,
                              .scale = scale,
                              .sum = query_sum_.as<int32_t>() + row});
    *scale = 1.0f / *scale;
  }
}

/// Queries [first, tile.count) over one chunk, into `state` from its first row on.
void Attention::compute(const Pass& pass, const Tile& tile, int64_t chunk, int64_t first, int worker,
                        kernels::AttentionState state) {
  const int64_t head_dim = config_.head_dim, start = chunk * kAttentionChunk;
  const int64_t row = worker * kTileQueries + first;
  int32_t lengths[kTileQueries];
  for (int64_t i = first; i < tile.count; ++i)
    lengths[i - first] = static_cast<int32_t>(std::min(length(pass, tile, i) - start, kAttentionChunk));
  const KvCache::Chunk kv = tile.cache->chunk(pass.layer, tile.kv_head, start);
  executor_.table.attention_chunk({.q = queries_.as<float>() + row * head_dim,
                                   .q8 = queries8_.as<int8_t>() + row * stride8_,
                                   .q_scale = query_scale_.as<float>() + row,
                                   .q_sum = query_sum_.as<int32_t>() + row,
                                   .q_stride = tile.cache->dtype() == DType::kI8 ? stride8_ : head_dim,
                                   .queries = tile.count - first,
                                   .lengths = lengths,
                                   .keys = kv.keys,
                                   .values = kv.values,
                                   .key_scale = kv.key_scale,
                                   .value_scale = kv.value_scale,
                                   .kv_type = tile.cache->dtype(),
                                   .head_dim = head_dim,
                                   .scale = scale_,
                                   .weights = weights_.as<float>() + worker * kTileQueries * kAttentionChunk,
                                   .out = state});
}

/// out = o * (1 / sum)
void Attention::finish(const Pass& pass, const Tile& tile, kernels::AttentionState state) const {
  for (int64_t i = 0; i < tile.count; ++i) {
    const int64_t query = tile.first + i;
    const int64_t head = tile.kv_head * group_ + query % group_;
    float* out = pass.out + query / group_ * config_.q_size() + head * config_.head_dim;
    const float* o = state.o + i * state.o_stride;
    const float inverse = 1.0f / state.sum[i];
    for (int64_t d = 0; d < config_.head_dim; ++d) out[d] = o[d] * inverse;
  }
}

}  // namespace bitnet
