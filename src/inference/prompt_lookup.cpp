#include "inference/prompt_lookup.h"

#include <algorithm>

namespace bitnet {

/// The place behind the last earlier occurrence of the last `ngram` tokens, or -1.
int64_t PromptLookup::find(int64_t ngram) const {
  const auto size = std::ssize(text_);
  for (int64_t end = size - 1; end >= ngram; --end) {
    if (std::equal(text_.end() - ngram, text_.end(), text_.begin() + (end - ngram))) return end;
  }
  return -1;
}

std::vector<int32_t> PromptLookup::guess(int64_t most) const {
  const int64_t count = std::min(most, limit_);
  if (count <= 0 || pause_ > 0) return {};
  // One token alone says too little: on prose, guesses after it cost more than they save.
  const int64_t least = std::min<int64_t>(ngram_, 2);
  for (int64_t ngram = std::min(ngram_, std::ssize(text_) - 1); ngram >= least; --ngram) {
    const int64_t begin = find(ngram);
    if (begin < 0) continue;
    const int64_t end = std::min(begin + count, std::ssize(text_));
    return {text_.begin() + begin, text_.begin() + end};
  }
  return {};
}

void PromptLookup::report(int64_t drafted, int64_t accepted) {
  if (drafted == 0) return;
  limit_ = accepted == drafted ? std::min(length_, 2 * limit_) : std::max<int64_t>(1, accepted + 1);
  failures_ = accepted > 0 ? 0 : failures_ + 1;
  constexpr int64_t kLongest = 6;
  if (failures_ >= 2) pause_ = int64_t{1} << std::min(failures_ - 1, kLongest);
}

}  // namespace bitnet
