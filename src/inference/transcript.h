#pragma once

#include "bitnet/inference/generate.h"
#include "bitnet/tokenizer/tokenizer.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// Text on its way out: holds back what may be the beginning of a stop string.
class StopStrings {
 public:
  explicit StopStrings(const std::vector<std::string>& strings);

  /// Takes new text; returns what may be shown. found() afterwards tells whether a stop string came.
  std::string push(std::string_view text);
  std::string flush();
  [[nodiscard]] bool found() const { return found_; }

 private:
  [[nodiscard]] size_t overlap(std::string_view string) const;

  const std::vector<std::string>& strings_;
  std::string held_;
  bool found_ = false;
};

/// What a generation has said so far, and whether it ends.
class Transcript {
 public:
  using OnToken = std::function<bool(const GenerateEvent&)>;
  /// Both must outlive it. Throws kUnsupported for stop strings without a tokenizer.
  Transcript(const Model& model, const GenerateOptions& options, OnToken on_token);

  void begin(std::span<const int32_t> prompt);
  /// Takes the token that follows; the reason to stop, if there is one.
  [[nodiscard]] std::optional<StopReason> take(int32_t token);
  /// How many more tokens are wanted.
  [[nodiscard]] int64_t tokens_left() const;
  /// The result; seconds and drafts are the caller's.
  [[nodiscard]] GenerateResult finish(StopReason reason);

 private:
  [[nodiscard]] bool is_stop(int32_t token) const;
  bool emit(int32_t token, std::string_view text);

  const Model& model_;
  const GenerateOptions& options_;
  OnToken on_token_;
  StopStrings stop_strings_;
  std::optional<StreamDecoder> decoder_;
  GenerateResult result_;
};

/// True if one more token fits the session or sequence. If it is full, and options.context_shift is on, keeps
/// the first tokens and drops half of the rest.
template <class Context>
bool make_room(Context& context, const GenerateOptions& options) {
  if (context.position() < context.context()) return true;
  if (!options.context_shift) return false;
  // Four: BOS and its neighbours collect the attention that has nowhere else to go (arXiv:2309.17453).
  const int64_t wanted = options.keep_tokens < 0 ? 4 : options.keep_tokens;
  const int64_t keep = std::min(wanted, context.context() - 1);
  context.shift(keep, std::max<int64_t>((context.position() - keep) / 2, 1));
  return true;
}

}  // namespace bitnet
