#pragma once

#include "bitnet/inference/sampler.h"
#include "inference/head_scan.h"
#include "inference/projector.h"
#include "inference/top_rows.h"

#include <span>
#include <vector>

namespace bitnet {

/// The final norm and the vocabulary's logits.
class Head {
 public:
  /// `exact_only`: top() computes all logits, too.
  Head(const Model::Impl& model, Executor executor, bool exact_only);

  /// out[i] = logits of the hidden state x.row(tokens[i]), [tokens.size(), vocab_size] row-major; at most
  /// kMaxTokens.
  void logits(Rows x, std::span<const int64_t> tokens, std::span<float> out);

  /// out[i] = logits() of token tokens[i] for the ids in queries[i].always, the queries[i].k highest of the
  /// other ids, and perhaps more, in order of id. A scan of the head in integers bounds all logits, and those
  /// that may be wanted are computed as logits() does (docs/NUMERICS.md).
  void top(Rows x, std::span<const int64_t> tokens, std::span<const TopQuery> queries,
           std::span<std::vector<Candidate>> out);

  /// Tokens whose logits are computed together: the head's rows are decoded once for all of them, and 16 x
  /// 128256 floats are 8 MB.
  static constexpr int64_t kMaxTokens = 16;

 private:
  /// Scratch of one thread.
  struct Worker {
    std::vector<float> lower, upper;
    std::vector<TopRows> top;
  };
  void normalize(Rows x, std::span<const int64_t> tokens);
  void multiply(int64_t tokens, std::span<float> out);
  [[nodiscard]] bool can_scan(std::span<const TopQuery> queries);
  void scan(int64_t tokens);
  void refine(int64_t token, std::span<TopRows::Interval> rows);
  [[nodiscard]] std::vector<TopRows::Interval> narrowed(int64_t token, int64_t k);
  [[nodiscard]] bool rescore(int64_t token, int64_t k, std::vector<Candidate>& out);
  void compute_rows(int64_t token, std::span<Candidate> run, std::span<std::byte> bytes);

  const Model::Impl& model_;
  Executor executor_;
  bool exact_only_;
  Rows normed_rows_;
  AlignedBuffer normed_;
  HeadScan scan_;
  std::vector<Worker> workers_;
  std::vector<std::vector<int32_t>> always_;  ///< of each query, sorted
  std::vector<float> all_;
};

}  // namespace bitnet
