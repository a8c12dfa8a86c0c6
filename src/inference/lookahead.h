#pragma once

#include "bitnet/inference/sampler.h"
#include "bitnet/inference/session.h"
#include "inference/prompt_lookup.h"

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// Samples a text from a session, one token after the other, and computes several in one pass where a guess
/// says how the text goes on: as long as the tokens sampled are those guessed, their logits are there. The
/// logits of a token do not depend on those computed with it, and each is sampled as without guesses, so the
/// text does not change either.
class Lookahead {
 public:
  Lookahead(Session& session, Sampler& sampler, PromptLookup lookup);

  /// Takes the tokens as the text's that the session already holds.
  void recall(std::span<const int32_t> ids);
  void append_prompt(std::span<const int32_t> ids);
  /// The next token.
  [[nodiscard]] int32_t sample();
  /// Takes it as the text's. True if it was guessed: the next sample() may follow. If false, append() must
  /// come first; what was computed for a wrong guess has left the session then.
  [[nodiscard]] bool follow(int32_t token);
  /// Appends the token to the session, and a guess of at most `most` tokens.
  void append(int32_t token, int64_t most);
  /// Takes guesses that were not used out of the session.
  void finish();

  [[nodiscard]] int64_t drafted() const { return drafted_; }
  [[nodiscard]] int64_t accepted() const { return accepted_; }

 private:
  void compute(std::span<const int32_t> ids, size_t results);

  Session& session_;
  Sampler& sampler_;
  PromptLookup lookup_;
  std::vector<int32_t> draft_;  ///< in the session, of which the text has reached the first `used_`
  size_t used_ = 0;
  // After used_ tokens of the draft: candidates or all logits.
  bool all_logits_ = false;
  std::vector<std::vector<Candidate>> candidates_;
  std::vector<std::vector<float>> logits_;
  int64_t drafted_ = 0, accepted_ = 0;
};

}  // namespace bitnet
