#pragma once

#include "bitnet/core/thread_pool.h"
#include "bitnet/model/config.h"

#include <cstdint>
#include <string>
#include <tuple>

namespace bitnet::cuda {

/// Which of several GPUs that compute a model together; one alone is {0, 1}.
struct Share {
  int rank = 0, size = 1;
  [[nodiscard]] bool alone() const { return size == 1; }
};

struct SharePlace {
  int device = 0;
  Share share;
  friend bool operator<(const SharePlace& a, const SharePlace& b) {
    return std::tie(a.device, a.share.rank, a.share.size) < std::tie(b.device, b.share.rank, b.share.size);
  }
};

/// Rows that a GPU computes of every matrix, [begin, end) of the vector that the matrix makes: key heads (and
/// the query heads that share them, as elements of the attention's output), hidden state, gates, vocabulary
/// (docs/adr/0010).
struct ShareRows {
  using Range = ThreadPool::Range;
  Range kv_heads, attention, hidden, ffn, vocab;
};
[[nodiscard]] ShareRows rows_of(const ModelConfig& config, Share share);

/// What is left of the model for one GPU: its heads and its part of the vocabulary. Widths stay.
[[nodiscard]] ModelConfig config_of(const ModelConfig& config, Share share);

/// Why `gpus` GPUs cannot share the model; empty if they can.
[[nodiscard]] std::string split_reason(const ModelConfig& config, int gpus);

}  // namespace bitnet::cuda
