#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace bitnet {

/// Settings of the chain, in the order in which they act: logit bias, repetition/frequency/presence
/// penalties, then greedy if temperature == 0; else top-k, typical-p, top-p, min-p, temperature, and a draw.
struct SamplerOptions {
  float temperature = 0.8f;                           ///< 0: greedy (argmax, lowest id on ties)
  int32_t top_k = 40;                                 ///< 0: off
  float top_p = 0.95f;                                ///< 1: off
  float min_p = 0.05f;                                ///< 0: off
  float typical_p = 1.0f;                             ///< 1: off
  float repetition_penalty = 1.0f;                    ///< logit > 0 ? logit / r : logit * r, for tokens seen
  float frequency_penalty = 0.0f;                     ///< logit -= f * count
  float presence_penalty = 0.0f;                      ///< logit -= p if seen
  int32_t penalty_window = 64;                        ///< last tokens considered; -1: all, 0: none
  std::vector<std::pair<int32_t, float>> logit_bias;  ///< -inf forbids a token
  uint64_t seed = 0;

  static SamplerOptions greedy() {
    SamplerOptions options;
    options.temperature = 0.0f;
    return options;
  }
  /// Throws kInvalidArgument, naming the setting and its range.
  void validate() const;
};

/// A token and its logit.
struct Candidate {
  int32_t id;
  float logit;
};

/// Which logits are wanted: those of `always`, and the k highest of all others. k >= 1.
struct TopQuery {
  int64_t k;
  std::span<const int32_t> always;
};

/// One sequence's sampler. The random numbers are counter-based (splitmix64 of seed and draw), so that the
/// same options, logits and history give the same token, whatever the thread count. Not thread-safe.
class Sampler {
 public:
  /// vocab_size bounds the ids of logit_bias (kOutOfRange).
  Sampler(SamplerOptions options, int64_t vocab_size);
  /// Throws kInvalidArgument if the logits hold no finite value.
  [[nodiscard]] int32_t sample(std::span<const float> logits);

  /// The logits that decide the next sample(), valid until accept(); null if all do (no top_k, and not
  /// greedy). With k = 1 or top_k, and the tokens whose logits bias or penalties change: every other token of
  /// the k highest after those changes is among the k highest others before.
  [[nodiscard]] std::optional<TopQuery> query();
  /// sample() of all logits, from those that query() names; any more do not matter. In order of id. Throws
  /// kInvalidArgument as above, or if query() is null or names a token that is missing.
  [[nodiscard]] int32_t sample(std::span<const Candidate> logits);
  /// Adds a token (prompt or generated) to the history that penalties look at.
  void accept(int32_t token);
  [[nodiscard]] const SamplerOptions& options() const { return options_; }

  /// The random number of the draw that follows `later` others, in [0, 1): for those who draw elsewhere.
  [[nodiscard]] double uniform(int64_t later = 0) const;
  /// Takes the next draw as done elsewhere.
  void skip_draw() { ++counter_; }

 private:
  [[nodiscard]] bool penalizes() const;
  [[nodiscard]] std::span<const int32_t> window() const;
  [[nodiscard]] float& logit_of(int32_t token);
  void apply_penalties();
  [[nodiscard]] int32_t choose();
  [[nodiscard]] int32_t draw();

  SamplerOptions options_;
  int64_t vocab_size_;
  std::vector<int32_t> history_;
  uint64_t counter_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<int32_t> changed_;  ///< of query()
};

}  // namespace bitnet
