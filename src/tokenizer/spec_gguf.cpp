#include "bitnet/core/log.h"
#include "bitnet/io/gguf.h"
#include "tokenizer/encoder.h"
#include "tokenizer/gguf_keys.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/spec_parts.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet {

namespace text {

namespace {

using Model = TokenizerSpec::Model;

// Llama-3's vocabulary, which BitNet 2B-4T shares; its official file names no pre-tokenizer.
constexpr size_t kLlama3VocabularySize = 128256;

void read_tokens(const GgufFile& file, TokenizerSpec& spec) {
  const auto* tokens = file.get_strings(gguf_key::kTokens);
  if (tokens == nullptr)
    throw corrupt(fmt::format("the file must have {}, but it has none", gguf_key::kTokens));
  spec.tokens = *tokens;
  spec.types.assign(tokens->size(), TokenType::kNormal);
  if (const auto types = file.get_integers(gguf_key::kTypes)) {
    if (types->size() != tokens->size()) {
      throw corrupt(fmt::format("{} must have {} entries, one per token, but it has {}", gguf_key::kTypes,
                                tokens->size(), types->size()));
    }
    for (size_t id = 0; id < types->size(); ++id) {
      const int64_t type = (*types)[id];
      if (type < 0 || type > 6)
        throw corrupt(fmt::format("a token type must lie in [0, 6], but it is {}", type));
      spec.types[id] = type == 0 ? TokenType::kNormal : static_cast<TokenType>(type);
    }
  }
}

void read_merges(const GgufFile& file, TokenizerSpec& spec) {
  const auto* merges = file.get_strings(gguf_key::kMerges);
  if (merges == nullptr) return;
  spec.merges.reserve(merges->size());
  for (const auto& merge : *merges) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos || space + 1 == merge.size()) {
      throw corrupt(fmt::format("merge {} must be two tokens with a space between, but it is \"{}\"",
                                spec.merges.size(), merge));
    }
    spec.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
}

std::optional<int32_t> id_of(const GgufFile& file, const char* key, size_t vocabulary_size) {
  const auto id = file.get_integer(key);
  if (!id) return std::nullopt;
  // Some converters write 2^32 - 1 or -1 for "none".
  if (*id == -1 || *id == 0xFFFFFFFF) return std::nullopt;
  if (*id < 0 || static_cast<uint64_t>(*id) >= vocabulary_size) {
    throw corrupt(fmt::format("{} must lie in [0, {}), but it is {}", key, vocabulary_size, *id));
  }
  return static_cast<int32_t>(*id);
}

void read_special_tokens(const GgufFile& file, TokenizerSpec& spec) {
  const size_t count = spec.tokens.size();
  spec.bos = id_of(file, gguf_key::kBos, count);
  spec.eos = id_of(file, gguf_key::kEos, count);
  spec.unk = id_of(file, gguf_key::kUnknown, count);
  spec.pad = id_of(file, gguf_key::kPadding, count);
  if (file.find(gguf_key::kTypes) == nullptr) {
    for (const auto& id : {spec.bos, spec.eos, spec.pad}) {
      if (id) spec.types[*id] = TokenType::kControl;
    }
  }
  if (const auto own = file.get_integers(gguf_key::kStopTokens)) {
    for (const int64_t id : *own) {
      if (id < 0 || static_cast<uint64_t>(id) >= count) {
        throw corrupt(fmt::format("{} must lie in [0, {}), but one is {}", gguf_key::kStopTokens, count, id));
      }
      spec.stop_tokens.push_back(static_cast<int32_t>(id));
    }
    return;
  }
  for (const char* key : {gguf_key::kEot, gguf_key::kEom}) {
    if (const auto id = id_of(file, key, count)) spec.stop_tokens.push_back(*id);
  }
  derive_stop_tokens(spec);
}

// The rules for files whose tokenizer.ggml.pre is absent or "default".
const PreTokenizerRules& rules_without_name(const GgufFile& file, const TokenizerSpec& spec) {
  const std::string_view architecture = file.get_string("general.architecture").value_or("");
  const bool llama3 = spec.tokens.size() == kLlama3VocabularySize || architecture.starts_with("bitnet");
  const auto* rules = find_pre_tokenizer(llama3 ? "llama-bpe" : "gpt-2");
  if (log_enabled(LogLevel::kWarning)) {
    log_message(
        LogLevel::kWarning,
        fmt::format("tokenizer: the file names no pre-tokenizer ({}); taking \"{}\" from the {}",
                    gguf_key::kPre, rules->name, llama3 ? "vocabulary and architecture" : "model type gpt2"));
  }
  return *rules;
}

std::vector<std::string> strings_or_none(const GgufFile& file, const char* key) {
  const auto* strings = file.get_strings(key);
  return strings == nullptr ? std::vector<std::string>() : *strings;
}

void read_byte_level(const GgufFile& file, TokenizerSpec& spec) {
  if (file.find(gguf_key::kMerges) == nullptr) {
    throw corrupt(
        fmt::format("a byte-level tokenizer must have {}, but the file has none", gguf_key::kMerges));
  }
  const std::string_view name = file.get_string(gguf_key::kPre).value_or("");
  if (name == gguf_key::kCustomPre) {
    spec.patterns = strings_or_none(file, gguf_key::kPatterns);
    spec.byte_patterns = strings_or_none(file, gguf_key::kBytePatterns);
    spec.byte_level_regex = file.get_bool(gguf_key::kByteLevelRegex).value_or(false);
    spec.split_digits = file.get_bool(gguf_key::kSplitDigits).value_or(false);
    spec.add_bos = false;
  } else {
    const auto* rules =
        name.empty() || name == "default" ? &rules_without_name(file, spec) : find_pre_tokenizer(name);
    if (rules == nullptr) {
      throw unsupported(fmt::format("the pre-tokenizer \"{}\" is not one whose rules are known", name));
    }
    apply_rules(*rules, spec);
    spec.pre_tokenizer = rules->name;
    spec.ignore_merges = rules->ignore_merges;
    spec.add_bos = rules->add_bos;
  }
  spec.add_space_prefix = file.get_bool(gguf_key::kAddSpacePrefix).value_or(false);
  spec.fuse_unk = file.get_bool(gguf_key::kFuseUnk).value_or(false);
}

void read_sentencepiece(const GgufFile& file, TokenizerSpec& spec) {
  const auto scores = file.get_reals(gguf_key::kScores);
  if (!scores && spec.merges.empty()) {
    throw corrupt(
        fmt::format("a SentencePiece tokenizer must have {}, but the file has none", gguf_key::kScores));
  }
  if (scores && !file.get_bool(gguf_key::kScoresFromMerges).value_or(false)) {
    for (const double score : *scores) spec.scores.push_back(static_cast<float>(score));
  }
  // What llama.cpp takes where the file does not say: unknown, bos and eos are tokens 0, 1 and 2.
  const auto default_id = [&](std::optional<int32_t>& token, size_t id, TokenType type) {
    if (!token && id < spec.types.size() && spec.types[id] == type) token = static_cast<int32_t>(id);
  };
  default_id(spec.unk, 0, TokenType::kUnknown);
  default_id(spec.bos, 1, TokenType::kControl);
  default_id(spec.eos, 2, TokenType::kControl);
  spec.add_space_prefix = file.get_bool(gguf_key::kAddSpacePrefix).value_or(true);
  spec.space_prefix_unless_space = file.get_bool(gguf_key::kPrefixUnlessSpace).value_or(false);
  spec.space_prefix_first_only = file.get_bool(gguf_key::kPrefixFirstOnly).value_or(false);
  spec.split_spaces = file.get_bool(gguf_key::kSplitSpaces).value_or(false);
  spec.fuse_unk = file.get_bool(gguf_key::kFuseUnk).value_or(true);
  spec.add_bos = true;
}

}  // namespace

}  // namespace text

std::optional<TokenizerSpec> tokenizer_spec_from_gguf(const GgufFile& file) {
  namespace key = text::gguf_key;
  const auto model = file.get_string(key::kModel);
  if (!model || *model == "none" || *model == "no_vocab") return std::nullopt;
  if (*model != "gpt2" && *model != "llama") {
    throw text::unsupported(fmt::format("the model \"{}\" is not supported", *model));
  }
  TokenizerSpec spec;
  spec.model =
      *model == "gpt2" ? TokenizerSpec::Model::kByteLevelBpe : TokenizerSpec::Model::kSentencePieceBpe;
  text::read_tokens(file, spec);
  text::read_merges(file, spec);
  text::read_special_tokens(file, spec);
  spec.model == TokenizerSpec::Model::kByteLevelBpe ? text::read_byte_level(file, spec)
                                                    : text::read_sentencepiece(file, spec);
  spec.ignore_merges = file.get_bool(key::kIgnoreMerges).value_or(spec.ignore_merges);
  spec.add_bos = file.get_bool(key::kAddBos).value_or(spec.add_bos) && spec.bos;
  spec.add_eos = file.get_bool(key::kAddEos).value_or(false) && spec.eos;
  spec.chat_template = file.get_string(key::kChatTemplate).value_or("");
  text::check_spec(spec);
  return spec;
}

}  // namespace bitnet
