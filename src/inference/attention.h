#pragma once

#include "bitnet/model/config.h"
#include "inference/batch_row.h"
#include "inference/executor.h"

#include <atomic>
#include <memory>
#include <span>
#include <vector>

namespace bitnet {

/// Causal attention of a batch over its sequences' caches, chunk by chunk (docs/NUMERICS.md). A tile is some
/// of the queries that read one KV head of one sequence. With few tokens (decoding), a tile's chunks are
/// computed by several threads at once, and whoever finishes the last joins them; with many, one thread goes
/// through them. Either way they are joined in order, so that results do not depend on threads or batch.
class Attention {
 public:
  Attention(const ModelConfig& config, Executor executor, int64_t context);

  /// out[i] = attention of q[i] over positions [0, rows[i].position] of layer `layer` of rows[i].cache; q and
  /// out are [rows.size(), q_size]. The keys and values of the rows are in the caches already.
  void run(int64_t layer, std::span<const BatchRow> rows, const float* q, float* out);

 private:
  /// Queries [first, first + count) of KV head `kv_head`: query i is head i % group of the token at batch row
  /// i / group.
  struct Tile {
    const KvCache* cache;
    int64_t kv_head, first, count, chunks;
    int64_t state;  ///< split: row of states_ where chunk 0 lies; `count` rows for each chunk
  };
  struct Task {
    size_t tile;
    int64_t first_chunk, last_chunk;  ///< split: those to compute, the last one excluded
  };
  struct Pass {
    int64_t layer;
    std::span<const BatchRow> rows;
    const float* q;
    float* out;
  };
  /// Rows of max, sum and o.
  class States {
   public:
    States(int64_t rows, int64_t value_dim)
        : value_dim_(value_dim),
          max_(scratch<float>(rows)),
          sum_(scratch<float>(rows)),
          o_(scratch<float>(rows * value_dim)) {}
    [[nodiscard]] kernels::AttentionState from(int64_t row) {
      return {max_.as<float>() + row, sum_.as<float>() + row, o_.as<float>() + row * value_dim_, value_dim_};
    }

   private:
    int64_t value_dim_;
    AlignedBuffer max_, sum_, o_;
  };

  void plan(std::span<const BatchRow> rows);
  void add_tiles(std::span<const BatchRow> rows, int64_t begin, int64_t end, int64_t wanted_tasks);
  void whole_tile(const Pass& pass, const Tile& tile, int worker);
  void some_chunks(const Pass& pass, const Task& task, int worker);
  void pack_queries(const Pass& pass, const Tile& tile, int64_t first, int worker);
  void compute(const Pass& pass, const Tile& tile, int64_t chunk, int64_t first, int worker,
               kernels::AttentionState state);
  void finish(const Pass& pass, const Tile& tile, kernels::AttentionState state) const;
  [[nodiscard]] int64_t length(const Pass& pass, const Tile& tile, int64_t query) const;
  [[nodiscard]] int64_t first_query(const Pass& pass, const Tile& tile, int64_t chunk) const;

  const ModelConfig& config_;
  Executor executor_;
  int64_t group_, value_dim_, stride8_;
  float scale_;
  bool split_ = false;
  std::vector<Tile> tiles_;
  std::vector<Task> tasks_;
  std::atomic<size_t> next_task_{0};
  std::unique_ptr<std::atomic<int64_t>[]> tasks_left_;  ///< split: per tile
  States states_;                                       ///< split: per query and chunk
  States totals_, parts_;                               ///< per worker, a tile's queries
  AlignedBuffer queries_, weights_;                     ///< per worker, a tile's queries
  AlignedBuffer queries8_, query_scale_, query_sum_;    ///< the same, quantized for a kI8 cache
};

}  // namespace bitnet
