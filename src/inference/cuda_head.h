#pragma once

#include "inference/cuda_model.h"
#include "inference/runner.h"

#include <span>
#include <vector>

namespace bitnet::cuda {

/// The final norm and the vocabulary's logits on the GPU, as Head on the processor.
class CudaHead {
 public:
  /// `exact_only`: top() computes all logits, too. `workspace` is workspace_bytes() of device memory that
  /// others may use between two calls.
  CudaHead(const ModelConfig& config, const CudaModel& model, bool exact_only, void* workspace);
  [[nodiscard]] static size_t workspace_bytes(const CudaModel& model);

  /// Logits of the named rows of x, [rows.size(), vocab_size]; waits for the stream.
  void logits(const float* x, int64_t stride, std::span<const int64_t> rows, std::span<float> out,
              Stream stream);
  /// As Runner::top.
  void top(const float* x, int64_t stride, std::span<const int64_t> rows, std::span<const TopQuery> queries,
           std::span<std::vector<Candidate>> out, Stream stream);
  [[nodiscard]] int64_t bytes() const;
  /// Whether draw() can: the scan finds as many candidates.
  [[nodiscard]] bool can_draw(int64_t k) const;
  /// Queues the draws of the tokens behind rows [first, first + count) of x, at most Runner::kMaxLogits:
  /// tokens and ids are of SampleArgs, [count].
  void draw(const float* x, int64_t stride, int64_t first, std::span<const TokenDraw> draws, int32_t* tokens,
            int32_t* ids, DecodeRow* advance, Stream stream);

 private:
  /// Logits of at most kMostLogits rows, on the host until the next call.
  [[nodiscard]] std::span<const float> some_logits(const float* x, int64_t stride,
                                                   std::span<const int64_t> rows, Stream stream);
  [[nodiscard]] bool can_scan(std::span<const TopQuery> queries) const;
  /// False for a row of which the bounds say too little.
  [[nodiscard]] bool scan(const float* x, int64_t stride, std::span<const int64_t> rows,
                          std::span<const TopQuery> queries, std::span<std::vector<Candidate>> out,
                          Stream stream);
  [[nodiscard]] Norms norms() const;
  /// head_top for the queries that lie in queries_.
  void find(const float* x, int64_t stride, int64_t tokens, Stream stream);

  const ModelConfig& config_;
  const CudaModel& model_;
  bool exact_only_;
  void* workspace_;  ///< head_top's, or logits
  DeviceBuffer queries_, always_, found_;
  std::vector<TopQueryRow> drawn_queries_;  ///< what queries_ holds if draw() wrote it last
  PinnedBuffer host_logits_, host_queries_, host_always_, host_found_;
};

}  // namespace bitnet::cuda
