#pragma once

#include "inference/attention.h"
#include "inference/batch_row.h"
#include "inference/ffn.h"
#include "inference/head.h"
#include "inference/projector.h"

#include <span>

namespace bitnet {

/// The decoder's forward pass over packed weights: scratch memory for up to `batch` tokens at once, and the
/// layers' arithmetic on a thread pool (docs/NUMERICS.md). It appends to KV caches that the caller owns.
class Forward {
 public:
  /// `context`: the most positions that any row's cache holds. exact_head: that of Head.
  Forward(const Model::Impl& model, Executor executor, int64_t batch, int64_t context, bool exact_head);

  /// Runs all layers for the rows, at most `batch`. Afterwards their hidden states are ready for logits().
  void run(std::span<const BatchRow> rows);
  /// Logits of rows of the last run by index, at most Head::kMaxTokens, [rows.size(), vocab_size] row-major.
  void logits(std::span<const int64_t> rows, std::span<float> out) { head_.logits(x_rows(), rows, out); }
  /// Candidates of the same (Head::top).
  void top(std::span<const int64_t> rows, std::span<const TopQuery> queries,
           std::span<std::vector<Candidate>> out) {
    head_.top(x_rows(), rows, queries, out);
  }
  [[nodiscard]] const std::vector<LayerActivations>& activations() const { return ffn_.activations(); }

 private:
  /// The embedding and RoPE angles of row `t`.
  void begin(const BatchRow& row, int64_t t);
  /// block = attention output of norm(x), whose rows `first` completes.
  void attention_block(size_t index, std::span<const BatchRow> rows, const Projector::RowStep& first);
  void rotate_and_store(int64_t layer, std::span<const BatchRow> rows);
  [[nodiscard]] Rows x_rows() { return {x_.as<float>(), hidden_stride_}; }
  [[nodiscard]] Rows block_rows() { return {block_.as<float>(), hidden_stride_}; }

  const Model::Impl& model_;
  const std::vector<Layer>& layers_;
  const ModelConfig& config_;
  Executor executor_;
  Projector projector_;
  Attention attention_;
  FeedForward ffn_;
  Head head_;
  int64_t hidden_stride_;
  AlignedBuffer x_, block_;  ///< the residual stream, and what a block adds to it
  AlignedBuffer q_, k_, v_, attn_, cos_, sin_;
};

}  // namespace bitnet
