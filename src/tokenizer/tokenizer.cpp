#include "bitnet/tokenizer/tokenizer.h"

#include "bitnet/core/error.h"
#include "tokenizer/encoder.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace bitnet {

namespace {

using Model = TokenizerSpec::Model;

TokenizerSpec completed(TokenizerSpec spec) {
  text::check_spec(spec);
  if (spec.model == Model::kByteLevelBpe && !text::has_rules(spec) && !spec.pre_tokenizer.empty()) {
    const auto* rules = text::find_pre_tokenizer(spec.pre_tokenizer);
    if (rules == nullptr) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("tokenizer: the pre-tokenizer must be one whose rules are known, not \"{}\"",
                              spec.pre_tokenizer),
                  "load the model from its tokenizer.json, which holds the rules themselves");
    }
    text::apply_rules(*rules, spec);
  }
  return spec;
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(TokenizerSpec given)
      : spec(completed(std::move(given))), vocabulary(spec), added(spec, vocabulary) {
    if (spec.model == Model::kByteLevelBpe) {
      byte_level.emplace(spec, vocabulary);
    } else {
      sentencepiece.emplace(spec, vocabulary);
    }
  }

  const TokenizerSpec spec;
  const text::Vocabulary vocabulary;
  const text::AddedTokens added;
  std::optional<text::ByteLevelEncoder> byte_level;
  std::optional<text::SentencePieceEncoder> sentencepiece;
};

Tokenizer::Tokenizer(TokenizerSpec spec) : impl_(std::make_unique<Impl>(std::move(spec))) {}
Tokenizer::~Tokenizer() = default;

const TokenizerSpec& Tokenizer::spec() const {
  return impl_->spec;
}
int32_t Tokenizer::vocab_size() const {
  return static_cast<int32_t>(impl_->spec.tokens.size());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> ids;
  if (options.add_special && spec().add_bos && spec().bos) ids.push_back(*spec().bos);
  text::MergeScratch scratch;
  for (const auto& part : impl_->added.split(text, options.parse_special)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else if (impl_->byte_level) {
      impl_->byte_level->encode(part.text, scratch, ids);
    } else {
      impl_->sentencepiece->encode(part.text, part.text.data() == text.data(), scratch, ids);
    }
  }
  if (options.add_special && spec().add_eos && spec().eos) ids.push_back(*spec().eos);
  return ids;
}

std::string Tokenizer::token_bytes(int32_t id, bool special) const {
  const bool hidden = is_special(id) && !special;
  return hidden ? std::string() : std::string(impl_->vocabulary.bytes(id));
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!is_special(id) || special) bytes += impl_->vocabulary.bytes(id);
  }
  const bool prefixed = spec().model == Model::kSentencePieceBpe && spec().add_space_prefix;
  if (prefixed && bytes.starts_with(' ')) bytes.erase(0, 1);
  return text::is_valid_utf8(bytes) ? bytes : text::to_valid_utf8(bytes);
}

std::optional<int32_t> Tokenizer::find(std::string_view token) const {
  const int32_t id = impl_->vocabulary.find(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Tokenizer::is_special(int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    throw Error(ErrorCode::kOutOfRange,
                fmt::format("tokenizer: a token id must lie in [0, {}), but it is {}", vocab_size(), id),
                "the ids belong to another tokenizer, or to the padding of the embedding");
  }
  return impl_->vocabulary.is_special(id);
}

namespace text {

namespace {

void check_id(const TokenizerSpec& spec, std::string_view what, int32_t id) {
  if (id >= 0 && static_cast<size_t>(id) < spec.tokens.size()) return;
  throw Error(ErrorCode::kCorruptData,
              fmt::format("tokenizer: {} must lie in [0, {}), but it is {}", what, spec.tokens.size(), id),
              "the tokenizer's files belong to different models, or one is damaged");
}

}  // namespace

void check_spec(const TokenizerSpec& spec) {
  const size_t count = spec.tokens.size();
  constexpr size_t kMaxTokens = 1 << 24;  // the largest published vocabularies are below 2^18
  if (count == 0 || count > kMaxTokens) {
    throw Error(
        ErrorCode::kCorruptData,
        fmt::format("tokenizer: a vocabulary must have 1 to {} tokens, but it has {}", kMaxTokens, count));
  }
  if (spec.types.size() != count || (!spec.scores.empty() && spec.scores.size() != count)) {
    throw Error(
        ErrorCode::kCorruptData,
        fmt::format(
            "tokenizer: {} tokens need as many types and as many scores or none, but there are {} and {}",
            count, spec.types.size(), spec.scores.size()),
        "the file is damaged, or its converter did not finish");
  }
  for (size_t id = 0; id < count; ++id) {
    if (!is_valid_utf8(spec.tokens[id])) {
      throw Error(ErrorCode::kCorruptData,
                  fmt::format("tokenizer: token {} must be UTF-8 text, but it is not", id),
                  "the file is damaged");
    }
  }
  for (const float score : spec.scores) {
    if (std::isfinite(score)) continue;
    throw Error(ErrorCode::kCorruptData, "tokenizer: scores must be finite, but one is not",
                "the file is damaged");
  }
  const std::pair<std::string_view, std::optional<int32_t>> ids[] = {{"the bos token", spec.bos},
                                                                     {"the eos token", spec.eos},
                                                                     {"the unk token", spec.unk},
                                                                     {"the pad token", spec.pad}};
  for (const auto& [what, id] : ids) {
    if (id) check_id(spec, what, *id);
  }
  for (const int32_t id : spec.stop_tokens) check_id(spec, "a stop token", id);
}

}  // namespace text
}  // namespace bitnet
