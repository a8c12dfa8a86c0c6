#pragma once

#include "bitnet/inference/engine.h"
#include "bitnet/inference/sampler.h"
#include "bitnet/inference/session.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

enum class StopReason {
  kMaxTokens,   ///< "length"
  kStopToken,   ///< "stop_token"
  kStopString,  ///< "stop_string"
  kContext,     ///< "context": the context is full and context_shift is off
  kCancelled,   ///< "cancelled"
};
[[nodiscard]] std::string_view to_string(StopReason reason);

struct GenerateOptions {
  SamplerOptions sampler;
  int64_t max_tokens = 256;               ///< -1: until another reason stops
  std::vector<std::string> stop_strings;  ///< not part of the text returned
  std::vector<int32_t> stop_tokens;       ///< over and above the model's
  bool ignore_stop_tokens = false;        ///< benchmarks
  bool context_shift = false;             ///< when full: keep `keep_tokens`, drop half of the rest, go on
  std::vector<int32_t> earlier_tokens;    ///< in the session before the prompt: penalties, guesses and text
                                          ///< go on from them
  int64_t keep_tokens = -1;               ///< -1: the prompt's BOS (or 4 tokens)
  /// Prompt lookup: guess up to draft_tokens tokens (0: off) from the last place of the prompt or the text
  /// where its last draft_ngram (or fewer) tokens stood, and check them in one pass. Same text, sooner where
  /// it repeats.
  int64_t draft_tokens = 0;
  int64_t draft_ngram = 3;
};

struct GenerateEvent {
  int32_t token;
  std::string_view text;  ///< newly complete text; may be empty; never a part of a UTF-8 character
};

struct GenerateResult {
  std::vector<int32_t> ids;  ///< generated, the stop token not included
  std::string text;
  StopReason stop_reason = StopReason::kMaxTokens;
  int64_t prompt_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;  ///< guesses, and those among them that came true
  double prefill_seconds = 0, decode_seconds = 0;
  [[nodiscard]] double prefill_tokens_per_second() const;
  /// Tokens after the first, per second.
  [[nodiscard]] double decode_tokens_per_second() const;
};

/// Appends `prompt` to the session and generates. on_token (may be empty) is called from the calling thread
/// with each token; it returns false to stop. `cancel` (may be null) is looked at before each token. Works
/// without a tokenizer (text is then empty). Throws kOutOfRange if the prompt does not fit the context, with
/// what to do.
GenerateResult generate(Session& session, std::span<const int32_t> prompt, const GenerateOptions& options,
                        const std::function<bool(const GenerateEvent&)>& on_token = {},
                        const std::atomic<bool>* cancel = nullptr);

/// The next prompt, or null when there are no more.
using PromptSource = std::function<std::optional<std::vector<int32_t>>()>;
/// The index of the prompt, counted from 0, and what became of it.
using OnResult = std::function<void(int64_t index, GenerateResult result)>;

/// Generates for many prompts, up to `parallel` at a time, each step in one pass over the weights; a text
/// that ends makes room for the next prompt. Every text is that of generate() on an empty session. Results
/// come as texts end. Without drafts, seconds and earlier_tokens. `cancel` is looked at before each step;
/// texts in progress then give no result. Throws kOutOfRange if a prompt does not fit the context,
/// kInvalidArgument if parallel < 1.
void generate_all(Engine& engine, const GenerateOptions& options, int64_t parallel,
                  const PromptSource& prompts, const OnResult& on_result,
                  const std::atomic<bool>* cancel = nullptr);

struct PerplexityResult {
  int64_t tokens = 0;
  double mean_nll = 0;  ///< nats
  [[nodiscard]] double perplexity() const;
};

/// Mean negative log-likelihood over windows of `window` tokens, each preceded by BOS (if the model has one),
/// no overlap: every token of the text is predicted once. `ids` carries no special tokens.
[[nodiscard]] PerplexityResult perplexity(
    Session& session, std::span<const int32_t> ids, int64_t window,
    const std::function<void(int64_t done, int64_t total)>& progress = {});
/// The ids as one window as they stand: token 0 is context only.
[[nodiscard]] PerplexityResult perplexity_of_ids(Session& session, std::span<const int32_t> ids);

}  // namespace bitnet
