#include "bitnet/inference/generate.h"

#include "bitnet/core/error.h"
#include "inference/lookahead.h"
#include "inference/transcript.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_draft(const GenerateOptions& options) {
  if (options.draft_tokens >= 0 && options.draft_ngram >= 1) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("drafts of {} tokens after n-grams of {}", options.draft_tokens, options.draft_ngram),
      "draft at least 0 tokens (0: off) after n-grams of at least 1");
}

/// One run of generate(): the state between tokens.
class Generation {
 public:
  Generation(Session& session, const GenerateOptions& options, Transcript::OnToken on_token,
             const std::atomic<bool>* cancel)
      : session_(session),
        options_(options),
        cancel_(cancel),
        sampler_(options.sampler, session.model().config().vocab_size),
        lookahead_(session, sampler_, PromptLookup(options.draft_tokens, options.draft_ngram)),
        transcript_(session.model(), options, std::move(on_token)) {
    check_draft(options);
  }

  GenerateResult run(std::span<const int32_t> prompt) {
    transcript_.begin(prompt);
    lookahead_.recall(options_.earlier_tokens);
    const auto start = Clock::now();
    lookahead_.append_prompt(prompt);
    const double prefill_seconds = seconds_since(start);
    const auto decode_start = Clock::now();
    const StopReason reason = decode();
    lookahead_.finish();
    const double decode_seconds = seconds_since(decode_start);
    GenerateResult result = transcript_.finish(reason);
    result.drafted_tokens = lookahead_.drafted();
    result.accepted_tokens = lookahead_.accepted();
    result.prefill_seconds = prefill_seconds;
    result.decode_seconds = decode_seconds;
    return result;
  }

 private:
  [[nodiscard]] bool cancelled() const {
    return cancel_ != nullptr && cancel_->load(std::memory_order_relaxed);
  }

  StopReason decode() {
    if (transcript_.tokens_left() == 0) return StopReason::kMaxTokens;
    for (;;) {
      if (cancelled()) return StopReason::kCancelled;
      const int32_t token = lookahead_.sample();
      if (const auto reason = transcript_.take(token)) return *reason;
      if (lookahead_.follow(token)) continue;
      if (options_.draft_tokens == 0) return decode_without_drafts(token);
      if (!make_room(session_, options_)) return StopReason::kContext;
      lookahead_.append(token, transcript_.tokens_left() - 1);
    }
  }

  /// From the first token on.
  StopReason decode_without_drafts(int32_t token) {
    for (;;) {
      if (!make_room(session_, options_)) return StopReason::kContext;
      std::optional<StopReason> reason;
      int64_t beyond = 0;  // steps that the end came too late for
      session_.decode(sampler_, token, [&](int32_t next) {
        if (reason) {
          ++beyond;
        } else if (cancelled()) {
          reason = StopReason::kCancelled;
        } else {
          token = next;
          reason = transcript_.take(next);
        }
        return !reason;
      });
      session_.truncate(session_.position() - beyond);
      if (reason) return *reason;
      sampler_.accept(token);
    }
  }

  Session& session_;
  const GenerateOptions& options_;
  const std::atomic<bool>* cancel_;
  Sampler sampler_;
  Lookahead lookahead_;
  Transcript transcript_;
};

/// -log softmax(logits)[token], in double.
double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += std::exp(logit - highest);
  return std::log(total) + highest - logits[static_cast<size_t>(token)];
}

/// Sum of the negative log-likelihoods of window[1..), the session starting afresh.
double window_nll(Session& session, std::span<const int32_t> window) {
  session.truncate(0);
  double sum = 0;
  // The last token predicts nothing that we know.
  session.append_each(window.first(window.size() - 1), [&](int64_t index, std::span<const float> logits) {
    sum += negative_log_likelihood(logits, window[static_cast<size_t>(index) + 1]);
  });
  return sum;
}

}  // namespace

std::string_view to_string(StopReason reason) {
  switch (reason) {
    case StopReason::kMaxTokens:
      return "length";
    case StopReason::kStopToken:
      return "stop_token";
    case StopReason::kStopString:
      return "stop_string";
    case StopReason::kContext:
      return "context";
    case StopReason::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

double GenerateResult::prefill_tokens_per_second() const {
  return prefill_seconds > 0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0;
}

double GenerateResult::decode_tokens_per_second() const {
  // The first token comes from the prefill's logits.
  return decode_seconds > 0 && ids.size() > 1 ? static_cast<double>(ids.size() - 1) / decode_seconds : 0;
}

GenerateResult generate(Session& session, std::span<const int32_t> prompt, const GenerateOptions& options,
                        const std::function<bool(const GenerateEvent&)>& on_token,
                        const std::atomic<bool>* cancel) {
  return Generation(session, options, on_token, cancel).run(prompt);
}

double PerplexityResult::perplexity() const {
  return std::exp(mean_nll);
}

PerplexityResult perplexity(Session& session, std::span<const int32_t> ids, int64_t window,
                            const std::function<void(int64_t done, int64_t total)>& progress) {
  std::vector<int32_t> bos;  // or empty
  if (const Tokenizer* tokenizer = session.model().tokenizer();
      tokenizer != nullptr && tokenizer->spec().bos) {
    bos.push_back(*tokenizer->spec().bos);
  }
  const auto prefix = static_cast<int64_t>(bos.size());
  if (window < 2 || window + prefix > session.context() + 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a window of {} tokens; it must be between 2 and {}",
                                                         window, session.context() + 1 - prefix));
  }
  if (ids.size() < 2) throw Error(ErrorCode::kInvalidArgument, "perplexity needs at least two tokens");
  PerplexityResult result;
  double sum = 0;
  std::vector<int32_t> text;
  const auto total = static_cast<int64_t>(ids.size());
  for (int64_t first = 0; first < total; first += window) {
    const auto part =
        ids.subspan(static_cast<size_t>(first), static_cast<size_t>(std::min(window, total - first)));
    text = bos;
    text.insert(text.end(), part.begin(), part.end());
    if (text.size() < 2) break;  // a last token alone, without BOS, is predicted by nothing
    sum += window_nll(session, text);
    result.tokens += static_cast<int64_t>(text.size()) - 1;
    if (progress) progress(first + static_cast<int64_t>(part.size()), total);
  }
  result.mean_nll = sum / static_cast<double>(result.tokens);
  return result;
}

PerplexityResult perplexity_of_ids(Session& session, std::span<const int32_t> ids) {
  if (ids.size() < 2) throw Error(ErrorCode::kInvalidArgument, "perplexity needs at least two tokens");
  PerplexityResult result;
  result.tokens = static_cast<int64_t>(ids.size()) - 1;
  result.mean_nll = window_nll(session, ids) / static_cast<double>(result.tokens);
  return result;
}

}  // namespace bitnet
