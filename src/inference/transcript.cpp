#include "inference/transcript.h"

#include "bitnet/core/error.h"

#include <limits>
#include <utility>

namespace bitnet {
namespace {

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

StopStrings::StopStrings(const std::vector<std::string>& strings) : strings_(strings) {
  for (const std::string& string : strings) {
    if (string.empty()) throw Error(ErrorCode::kInvalidArgument, "a stop string is empty");
  }
}

std::string StopStrings::push(std::string_view text) {
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

std::string StopStrings::flush() {
  return std::exchange(held_, {});
}

/// Length of the longest suffix of the held text that is a proper prefix of the string.
size_t StopStrings::overlap(std::string_view string) const {
  for (size_t length = std::min(held_.size(), string.size() - 1); length > 0; --length) {
    if (std::string_view(held_).ends_with(string.substr(0, length))) return length;
  }
  return 0;
}

Transcript::Transcript(const Model& model, const GenerateOptions& options, OnToken on_token)
    : model_(model), options_(options), on_token_(std::move(on_token)), stop_strings_(options.stop_strings) {
  if (const Tokenizer* tokenizer = model.tokenizer()) decoder_.emplace(*tokenizer);
  if (!options.stop_strings.empty() && !decoder_) {
    throw Error(ErrorCode::kUnsupported, "stop strings need a tokenizer, and the model has none",
                "use stop tokens instead");
  }
}

void Transcript::begin(std::span<const int32_t> prompt) {
  result_.prompt_tokens = std::ssize(prompt);
  // The text goes on from the prompt's: a leading space stays, and a character begun there is finished here.
  for (const auto ids : {std::span<const int32_t>(options_.earlier_tokens), prompt}) {
    for (const int32_t id : ids) {
      if (decoder_) (void)decoder_->push(id);
    }
  }
}

std::optional<StopReason> Transcript::take(int32_t token) {
  if (is_stop(token)) return StopReason::kStopToken;
  result_.ids.push_back(token);
  const std::string text = decoder_ ? stop_strings_.push(decoder_->push(token)) : std::string();
  const bool go_on = emit(token, text);
  if (stop_strings_.found()) return StopReason::kStopString;
  if (!go_on) return StopReason::kCancelled;
  if (tokens_left() == 0) return StopReason::kMaxTokens;
  return std::nullopt;
}

int64_t Transcript::tokens_left() const {
  if (options_.max_tokens < 0) return std::numeric_limits<int64_t>::max();
  return options_.max_tokens - std::ssize(result_.ids);
}

GenerateResult Transcript::finish(StopReason reason) {
  result_.stop_reason = reason;
  if (decoder_ && !stop_strings_.found()) {
    emit(result_.ids.empty() ? 0 : result_.ids.back(),
         stop_strings_.push(decoder_->finish()) + stop_strings_.flush());
  }
  return std::move(result_);
}

bool Transcript::is_stop(int32_t token) const {
  if (options_.ignore_stop_tokens) return false;
  return contains(model_.stop_tokens(), token) || contains(options_.stop_tokens, token);
}

/// Returns false if the callback wants to stop.
bool Transcript::emit(int32_t token, std::string_view text) {
  result_.text += text;
  return !on_token_ || on_token_(GenerateEvent{token, text});
}

}  // namespace bitnet
