#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// Guesses how a text goes on: as it did after the last earlier place where its last `ngram` tokens stood,
/// else its last ngram - 1 tokens, and so on, but for the last token alone.   Source: Saxena, "Prompt Lookup
/// Decoding", 2023.
class PromptLookup {
 public:
  /// At most `length` tokens a guess; fewer while guesses fail, because a wrong one costs time, and none for
  /// a while after two in a row that failed from the first token on: 2, 4, 8, ... up to 64 tokens.
  PromptLookup(int64_t length, int64_t ngram) : length_(length), ngram_(ngram), limit_(length) {}

  void push(int32_t token) {
    text_.push_back(token);
    if (pause_ > 0) --pause_;
  }
  /// At most `most` tokens; none if the text's end is new, length is 0, or during a pause.
  [[nodiscard]] std::vector<int32_t> guess(int64_t most) const;
  /// What became of a guess.
  void report(int64_t drafted, int64_t accepted);

 private:
  [[nodiscard]] int64_t find(int64_t ngram) const;

  int64_t length_, ngram_, limit_;
  int64_t failures_ = 0;  ///< guesses in a row of which nothing was right
  int64_t pause_ = 0;     ///< tokens left of it
  std::vector<int32_t> text_;
};

}  // namespace bitnet
