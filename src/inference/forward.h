#pragma once

#include "bitnet/core/memory.h"
#include "bitnet/core/thread_pool.h"
#include "inference/kv_cache.h"
#include "inference/model_impl.h"
#include "kernels/kernel_table.h"

#include <functional>
#include <span>
#include <vector>

namespace bitnet {

/// The decoder's forward pass over packed weights: scratch memory for up to `batch` tokens at once, and the
/// layers' arithmetic on a thread pool (docs/NUMERICS.md). It appends to a KV cache that the caller owns.
class Forward {
 public:
  Forward(const Model::Impl& model, const kernels::KernelTable& table, ThreadPool& pool, int64_t batch,
          int64_t context);

  /// Runs all layers for ids (at most `batch`), which stand at positions [position, position + ids.size()).
  /// Afterwards hidden states are ready for logits().
  void run(std::span<const int32_t> ids, int64_t position, KvCache& cache);
  /// Logits of tokens [first, first + count) of the last run, [count, vocab_size] row-major.
  void logits(int64_t first, int64_t count, std::span<float> out);

 private:
  struct Job {
    const Linear* linear;
    float* y;
    int64_t y_stride;
  };
  void embed(std::span<const int32_t> ids);
  void attention_block(const Layer& layer, int64_t index, int64_t position, KvCache& cache);
  void attend(int64_t layer, int64_t position, const KvCache& cache);
  void ffn_block(const Layer& layer);
  /// y = Linear(x) for several layers that read the same input, x [tokens, cols].
  void project(std::span<const Job> jobs, const float* x, int64_t x_stride);
  void quantize(const float* x, int64_t x_stride, int64_t cols);
  void matmul(std::span<const Job> jobs);
  /// RMSNorm of x [tokens, weight.size()] into y.
  void norm(const float* x, int64_t x_stride, std::span<const float> weight, float eps, float* y,
            int64_t y_stride);
  void glu();
  /// body(token) for every token, in parallel if there are several.
  template <class Body>
  void for_tokens(Body&& body);

  const Model::Impl& model_;
  const ModelConfig& config_;
  const kernels::KernelTable& table_;
  ThreadPool& pool_;
  int64_t tokens_ = 0;
  int64_t hidden_stride_, ffn_stride_, q8_stride_, score_stride_, head_stride_;
  AlignedBuffer x_, normed_, q_, k_, v_, attn_, gate_, up_, projected_, q8_, q8_scale_, q8_sum_, cos_, sin_;
  AlignedBuffer scores_;  ///< per worker
  AlignedBuffer heads_;   ///< per worker: a query head padded to whole vectors
};

}  // namespace bitnet
