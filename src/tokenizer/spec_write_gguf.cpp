#include "bitnet/io/gguf.h"
#include "tokenizer/encoder.h"
#include "tokenizer/gguf_keys.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/spec_parts.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

namespace bitnet {

namespace text {

namespace {

// Readers that know no merges for SentencePiece go by score; the earlier a merge, the higher its token's.
std::vector<float> scores_from_merges(const TokenizerSpec& spec) {
  std::unordered_map<std::string, float> score_of;
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    score_of.emplace(spec.merges[rank].first + spec.merges[rank].second, -static_cast<float>(rank) - 1);
  }
  std::vector<float> scores;
  scores.reserve(spec.tokens.size());
  for (const auto& token : spec.tokens) {
    const auto found = score_of.find(token);
    scores.push_back(found == score_of.end() ? 0 : found->second);
  }
  return scores;
}

std::vector<std::string> merge_strings(const TokenizerSpec& spec) {
  std::vector<std::string> merges;
  merges.reserve(spec.merges.size());
  for (const auto& [left, right] : spec.merges) {
    if (left.empty() || right.empty() || left.find(' ') != std::string::npos ||
        right.find(' ') != std::string::npos) {
      throw unsupported(
          fmt::format("merges in GGUF must be of non-empty tokens without spaces, but one is \"{}\" + \"{}\"",
                      left, right));
    }
    merges.push_back(fmt::format("{} {}", left, right));
  }
  return merges;
}

void add_rules(const TokenizerSpec& spec, GgufWriter& writer) {
  const auto* named = find_pre_tokenizer(spec.pre_tokenizer);
  const bool fits = named != nullptr && (same_rules(*named, spec) || !has_rules(spec));
  const auto* rules = fits ? named : find_pre_tokenizer(name_of_rules(spec));
  if (rules == nullptr) {
    writer.add(gguf_key::kPatterns, GgufValue::strings(spec.patterns));
    writer.add(gguf_key::kBytePatterns, GgufValue::strings(spec.byte_patterns));
    writer.add(gguf_key::kByteLevelRegex, GgufValue::boolean(spec.byte_level_regex));
    writer.add(gguf_key::kSplitDigits, GgufValue::boolean(spec.split_digits));
  }
  writer.add(gguf_key::kPre,
             GgufValue::string(std::string(rules == nullptr ? gguf_key::kCustomPre : rules->name)));
  if (spec.ignore_merges != (rules != nullptr && rules->ignore_merges)) {
    writer.add(gguf_key::kIgnoreMerges, GgufValue::boolean(spec.ignore_merges));
  }
  if (spec.add_space_prefix) writer.add(gguf_key::kAddSpacePrefix, GgufValue::boolean(true));
  if (spec.fuse_unk) writer.add(gguf_key::kFuseUnk, GgufValue::boolean(true));
}

void add_sentencepiece(const TokenizerSpec& spec, GgufWriter& writer) {
  writer.add(gguf_key::kPre, GgufValue::string("default"));
  const bool derived = spec.scores.empty();
  writer.add(gguf_key::kScores, GgufValue::f32_array(derived ? scores_from_merges(spec) : spec.scores));
  if (derived) writer.add(gguf_key::kScoresFromMerges, GgufValue::boolean(true));
  writer.add(gguf_key::kAddSpacePrefix, GgufValue::boolean(spec.add_space_prefix));
  const std::pair<const char*, bool> flags[] = {
      {gguf_key::kIgnoreMerges, spec.ignore_merges},
      {gguf_key::kPrefixUnlessSpace, spec.space_prefix_unless_space},
      {gguf_key::kPrefixFirstOnly, spec.space_prefix_first_only},
      {gguf_key::kSplitSpaces, spec.split_spaces}};
  for (const auto& [key, set] : flags) {
    if (set) writer.add(key, GgufValue::boolean(true));
  }
  if (!spec.fuse_unk) writer.add(gguf_key::kFuseUnk, GgufValue::boolean(false));
}

}  // namespace

}  // namespace text

void add_tokenizer_to_gguf(const TokenizerSpec& spec, GgufWriter& writer) {
  namespace key = text::gguf_key;
  text::check_spec(spec);
  const bool byte_level = spec.model == TokenizerSpec::Model::kByteLevelBpe;
  const auto merges = text::merge_strings(spec);
  writer.add(key::kModel, GgufValue::string(byte_level ? "gpt2" : "llama"));
  byte_level ? text::add_rules(spec, writer) : text::add_sentencepiece(spec, writer);
  writer.add(key::kTokens, GgufValue::strings(spec.tokens));
  std::vector<int32_t> types;
  for (const TokenType type : spec.types) types.push_back(static_cast<int32_t>(type));
  writer.add(key::kTypes, GgufValue::i32_array(types));
  if (byte_level || !merges.empty()) writer.add(key::kMerges, GgufValue::strings(merges));
  const std::pair<const char*, std::optional<int32_t>> ids[] = {
      {key::kBos, spec.bos}, {key::kEos, spec.eos}, {key::kUnknown, spec.unk}, {key::kPadding, spec.pad}};
  for (const auto& [name, id] : ids) {
    if (id) writer.add(name, GgufValue::u32(static_cast<uint32_t>(*id)));
  }
  writer.add(key::kAddBos, GgufValue::boolean(spec.add_bos));
  writer.add(key::kAddEos, GgufValue::boolean(spec.add_eos));
  if (!spec.stop_tokens.empty()) writer.add(key::kStopTokens, GgufValue::i32_array(spec.stop_tokens));
  if (!spec.chat_template.empty()) writer.add(key::kChatTemplate, GgufValue::string(spec.chat_template));
}

}  // namespace bitnet
