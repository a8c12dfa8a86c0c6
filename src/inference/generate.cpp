#include "bitnet/inference/generate.h"

#include "bitnet/core/error.h"
#include "inference/lookahead.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Text on its way out: holds back what may be the beginning of a stop string.
class StopStrings {
 public:
  explicit StopStrings(const std::vector<std::string>& strings) : strings_(strings) {
    for (const std::string& string : strings) {
      if (string.empty()) throw Error(ErrorCode::kInvalidArgument, "a stop string is empty");
    }
  }

  /// Takes new text; returns what may be shown. found() afterwards tells whether a stop string came.
  std::string push(std::string_view text) {
    held_ += text;
    size_t stop = std::string::npos;
    for (const std::string& string : strings_) stop = std::min(stop, held_.find(string));
    if (stop != std::string::npos) {
      found_ = true;
      held_.resize(stop);
      return flush();
    }
    size_t keep = 0;
    for (const std::string& string : strings_) keep = std::max(keep, overlap(string));
    std::string out = held_.substr(0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
    return out;
  }
  std::string flush() { return std::exchange(held_, {}); }
  [[nodiscard]] bool found() const { return found_; }

 private:
  /// Length of the longest suffix of the held text that is a proper prefix of the string.
  [[nodiscard]] size_t overlap(std::string_view string) const {
    for (size_t length = std::min(held_.size(), string.size() - 1); length > 0; --length) {
      if (std::string_view(held_).ends_with(string.substr(0, length))) return length;
    }
    return 0;
  }

  const std::vector<std::string>& strings_;
  std::string held_;
  bool found_ = false;
};

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
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
  Generation(Session& session, const GenerateOptions& options,
             const std::function<bool(const GenerateEvent&)>& on_token, const std::atomic<bool>* cancel)
      : session_(session),
        options_(options),
        on_token_(on_token),
        cancel_(cancel),
        sampler_(options.sampler, session.model().config().vocab_size),
        lookahead_(session, sampler_, PromptLookup(options.draft_tokens, options.draft_ngram)),
        stop_strings_(options.stop_strings) {
    check_draft(options);
    if (const Tokenizer* tokenizer = session.model().tokenizer()) decoder_.emplace(*tokenizer);
    if (!options.stop_strings.empty() && !decoder_) {
      throw Error(ErrorCode::kUnsupported, "stop strings need a tokenizer, and the model has none",
                  "use stop tokens instead");
    }
  }

  GenerateResult run(std::span<const int32_t> prompt) {
    result_.prompt_tokens = static_cast<int64_t>(prompt.size());
    // The text goes on from the prompt's: a leading space stays, and a character begun there is finished
    // here.
    for (const auto ids : {std::span<const int32_t>(options_.earlier_tokens), prompt}) {
      for (const int32_t id : ids) {
        if (decoder_) (void)decoder_->push(id);
      }
    }
    lookahead_.recall(options_.earlier_tokens);
    const auto start = Clock::now();
    lookahead_.append_prompt(prompt);
    result_.prefill_seconds = seconds_since(start);
    const auto decode_start = Clock::now();
    result_.stop_reason = decode();
    lookahead_.finish();
    result_.drafted_tokens = lookahead_.drafted();
    result_.accepted_tokens = lookahead_.accepted();
    result_.decode_seconds = seconds_since(decode_start);
    if (decoder_ && !stop_strings_.found()) {
      emit(result_.ids.empty() ? 0 : result_.ids.back(),
           stop_strings_.push(decoder_->finish()) + stop_strings_.flush());
    }
    return std::move(result_);
  }

 private:
  StopReason decode() {
    for (;;) {
      if (options_.max_tokens >= 0 && static_cast<int64_t>(result_.ids.size()) >= options_.max_tokens) {
        return StopReason::kMaxTokens;
      }
      if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) return StopReason::kCancelled;
      const int32_t token = lookahead_.sample();
      if (is_stop(token)) return StopReason::kStopToken;
      result_.ids.push_back(token);
      const std::string text = decoder_ ? stop_strings_.push(decoder_->push(token)) : std::string();
      const bool go_on = emit(token, text);
      if (stop_strings_.found()) return StopReason::kStopString;
      if (!go_on) return StopReason::kCancelled;
      if (static_cast<int64_t>(result_.ids.size()) == options_.max_tokens) return StopReason::kMaxTokens;
      if (lookahead_.follow(token)) continue;
      if (session_.position() == session_.context() && !make_room()) return StopReason::kContext;
      lookahead_.append(token, tokens_left() - 1);
    }
  }

  [[nodiscard]] int64_t tokens_left() const {
    if (options_.max_tokens < 0) return std::numeric_limits<int64_t>::max();
    return options_.max_tokens - std::ssize(result_.ids);
  }

  [[nodiscard]] bool is_stop(int32_t token) const {
    if (options_.ignore_stop_tokens) return false;
    return contains(session_.model().stop_tokens(), token) || contains(options_.stop_tokens, token);
  }

  /// Returns false if the callback wants to stop.
  bool emit(int32_t token, std::string_view text) {
    result_.text += text;
    return !on_token_ || on_token_(GenerateEvent{token, text});
  }

  /// Context shift: keeps the first tokens, drops half of the rest.
  bool make_room() {
    if (!options_.context_shift) return false;
    // Four: BOS and its neighbours collect the attention that has nowhere else to go (arXiv:2309.17453).
    const int64_t wanted = options_.keep_tokens < 0 ? 4 : options_.keep_tokens;
    const int64_t keep = std::min(wanted, session_.context() - 1);
    const int64_t drop = std::max<int64_t>((session_.position() - keep) / 2, 1);
    session_.shift(keep, drop);
    return true;
  }

  Session& session_;
  const GenerateOptions& options_;
  const std::function<bool(const GenerateEvent&)>& on_token_;
  const std::atomic<bool>* cancel_;
  Sampler sampler_;
  Lookahead lookahead_;
  StopStrings stop_strings_;
  std::optional<StreamDecoder> decoder_;
  GenerateResult result_;
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
