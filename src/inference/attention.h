#pragma once

#include "bitnet/model/config.h"
#include "inference/batch_row.h"
#include "inference/executor.h"

#include <span>

namespace bitnet {

/// Causal attention of a batch over its sequences' caches.
class Attention {
 public:
  Attention(const ModelConfig& config, Executor executor, int64_t context);

  /// out[i] = attention of q[i] over positions [0, rows[i].position] of layer `layer` of rows[i].cache; q and
  /// out are [rows.size(), q_size]. The keys and values of the rows are in the caches already.
  void run(int64_t layer, std::span<const BatchRow> rows, const float* q, float* out);

 private:
  const ModelConfig& config_;
  Executor executor_;
  int64_t score_stride_, head_stride_;
  AlignedBuffer scores_;  ///< per worker
  AlignedBuffer heads_;   ///< per worker: a query head padded to whole vectors
};

}  // namespace bitnet
