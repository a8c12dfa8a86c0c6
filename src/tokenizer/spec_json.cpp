#include "bitnet/core/log.h"
#include "tokenizer/encoder.h"
#include "tokenizer/spec_parts.h"
#include "tokenizer/vocabulary.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet {

namespace text {

namespace {

using Model = TokenizerSpec::Model;

const Json& model_of(const Json& tokenizer) {
  const Json* model = object_member(tokenizer, "model");
  if (model == nullptr) throw corrupt("tokenizer.json must have a \"model\", but it has none");
  // Files from before 2020 leave the type out; they are BPE if they have merges.
  const std::string type = string_member(*model, "type", member(*model, "merges") != nullptr ? "BPE" : "");
  if (type != "BPE") throw unsupported(fmt::format("the model \"{}\" is not supported", type));
  const Json* dropout = member(*model, "dropout");
  if (dropout != nullptr && !(dropout->is_number() && dropout->get<double>() == 0)) {
    throw unsupported("BPE with dropout is not supported");
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!string_member(*model, affix).empty())
      throw unsupported(fmt::format("BPE with a {} is not supported", affix));
  }
  return *model;
}

// Puts a token at its place; a place is free while its text is empty.
void place_token(TokenizerSpec& spec, int32_t id, const std::string& text, TokenType type) {
  if (text.empty()) throw corrupt(fmt::format("token {} must have a text, but it is empty", id));
  std::string& place = spec.tokens[id];
  if (!place.empty() && place != text) {
    throw corrupt(
        fmt::format("every id must be given once, but {} is both \"{}\" and \"{}\"", id, place, text));
  }
  place = text;
  spec.types[id] = type;
}

void read_vocabulary(const Json& tokenizer, const Json& model, TokenizerSpec& spec) {
  const Json* vocabulary = object_member(model, "vocab");
  if (vocabulary == nullptr) throw corrupt("the BPE model must have a \"vocab\", but it has none");
  const Json* added = array_member(tokenizer, "added_tokens");
  // Ids have no gaps, so the count bounds them before anything is allocated.
  size_t count = vocabulary->size();
  if (added != nullptr) {
    for (const auto& token : *added) count += !vocabulary->contains(string_member(token, "content"));
  }
  spec.tokens.resize(count);
  spec.types.assign(count, TokenType::kNormal);
  const bool byte_fallback = bool_member(model, "byte_fallback", false);
  for (const auto& [text, id] : vocabulary->items()) {
    const bool is_byte = byte_fallback && byte_of_token(text) >= 0;
    place_token(spec, token_id(id, text, count), text, is_byte ? TokenType::kByte : TokenType::kNormal);
  }
  if (added == nullptr) return;
  bool flags = false;
  for (const auto& token : *added) {
    const std::string text = string_member(token, "content");
    const Json* id = member(token, "id");
    if (id == nullptr)
      throw corrupt(fmt::format("the added token \"{}\" must have an id, but it has none", text));
    const bool special = bool_member(token, "special", false);
    place_token(spec, token_id(*id, text, count), text,
                special ? TokenType::kControl : TokenType::kUserDefined);
    for (const char* flag : {"lstrip", "rstrip", "single_word"})
      flags = flags || bool_member(token, flag, false);
  }
  if (flags) {
    log_message(
        LogLevel::kWarning,
        "tokenizer: lstrip, rstrip and single_word of added tokens are not followed: spaces around such "
        "tokens stay text");
  }
}

void check_no_gaps(const TokenizerSpec& spec) {
  const auto gap = std::find(spec.tokens.begin(), spec.tokens.end(), "");
  if (gap == spec.tokens.end()) return;
  throw corrupt(fmt::format("{} tokens must have the ids 0 to {}, but {} is missing", spec.tokens.size(),
                            spec.tokens.size() - 1, gap - spec.tokens.begin()));
}

std::pair<std::string, std::string> merge_of(const Json& merge, size_t rank) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  throw corrupt(fmt::format("merge {} must be \"a b\" or [\"a\", \"b\"], but it is another {}", rank,
                            merge.type_name()));
}

void read_merges(const Json& model, TokenizerSpec& spec) {
  const Json* merges = array_member(model, "merges");
  if (merges == nullptr) throw corrupt("the BPE model must have \"merges\", but it has none");
  spec.merges.reserve(merges->size());
  for (size_t rank = 0; rank < merges->size(); ++rank) spec.merges.push_back(merge_of((*merges)[rank], rank));
}

void read_unknown(const Json& model, TokenizerSpec& spec) {
  const std::string unknown = string_member(model, "unk_token");
  if (unknown.empty()) return;
  spec.unk = find_token(spec, unknown);
  if (!spec.unk)
    throw corrupt(fmt::format("the unk_token \"{}\" must be in the vocabulary, but it is not", unknown));
  // Byte-level models know every byte; some name a control token here that keeps its own meaning.
  if (spec.model == Model::kSentencePieceBpe) spec.types[*spec.unk] = TokenType::kUnknown;
}

// "bos_token" and the like: a text, or an object with the text in "content".
std::optional<int32_t> named_token(const Json& config, const char* key, const TokenizerSpec& spec) {
  const Json* value = member(config, key);
  if (value == nullptr) return std::nullopt;
  const std::string text = value->is_object() ? string_member(*value, "content") : string_member(config, key);
  const auto id = find_token(spec, text);
  if (!id && log_enabled(LogLevel::kWarning)) {
    log_message(LogLevel::kWarning,
                fmt::format("tokenizer: {} \"{}\" is not in the vocabulary and is left out", key, text));
  }
  return id;
}

std::string chat_template_of(const Json& config) {
  const Json* value = member(config, "chat_template");
  if (value == nullptr) return "";
  if (!value->is_array()) return string_member(config, "chat_template");
  for (const auto& entry : *value) {
    if (string_member(entry, "name") == "default") return string_member(entry, "template");
  }
  return "";
}

void read_own_entry(const Json& config, TokenizerSpec& spec) {
  const Json* own = object_member(config, kOwnEntry);
  if (own == nullptr) return;
  const size_t count = spec.tokens.size();
  spec.pre_tokenizer = string_member(*own, "pre_tokenizer", spec.pre_tokenizer);
  if (member(*own, "stop_tokens") != nullptr) spec.stop_tokens = token_ids(*own, "stop_tokens", count);
  if (const Json* types = array_member(*own, "token_types")) {
    for (const auto& entry : *types) {
      if (!entry.is_array() || entry.size() != 2)
        throw corrupt("\"token_types\" must be pairs of id and type");
      const int32_t type = token_id(entry[1], "a token type", 7);
      if (type == 0) throw corrupt("a token type must lie in [1, 6], but it is 0");
      spec.types[token_id(entry[0], "a typed token", count)] = static_cast<TokenType>(type);
    }
  }
  if (const Json* scores = array_member(*own, "scores")) {
    for (const auto& score : *scores) {
      if (!score.is_number()) throw corrupt("\"scores\" must be numbers, but one is not");
      spec.scores.push_back(score.get<float>());
    }
    if (bool_member(*own, "merges_from_scores", false)) spec.merges.clear();
  }
}

void read_config(const Json& config, TokenizerSpec& spec) {
  // What the post_processor puts around the text wins; another eos still ends a text.
  const auto bos = named_token(config, "bos_token", spec), eos = named_token(config, "eos_token", spec);
  if (bos && !spec.add_bos) spec.bos = bos;
  if (eos && spec.add_eos && *eos != *spec.eos) spec.stop_tokens.push_back(*eos);
  if (eos && !spec.add_eos) spec.eos = eos;
  if (const auto pad = named_token(config, "pad_token", spec)) spec.pad = pad;
  if (const auto unk = named_token(config, "unk_token", spec); unk && !spec.unk) spec.unk = unk;
  spec.add_bos = bool_member(config, "add_bos_token", spec.add_bos) && spec.bos;
  spec.add_eos = bool_member(config, "add_eos_token", spec.add_eos) && spec.eos;
  spec.chat_template = chat_template_of(config);
}

}  // namespace

void derive_stop_tokens(TokenizerSpec& spec) {
  static constexpr std::string_view kTurnEnds[] = {"<|eot_id|>",    "<|eom_id|>",     "<|im_end|>",
                                                   "<|end|>",       "<end_of_turn>",  "<|eot|>",
                                                   "<|endoftext|>", "<|end_of_text|>"};
  auto& stops = spec.stop_tokens;
  if (spec.eos) stops.push_back(*spec.eos);
  for (const auto text : kTurnEnds) {
    const auto id = find_token(spec, text);
    if (id && spec.types[*id] != TokenType::kNormal) stops.push_back(*id);
  }
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());
}

}  // namespace text

TokenizerSpec tokenizer_spec_from_json(std::string_view tokenizer_json,
                                       std::string_view tokenizer_config_json) {
  try {
    TokenizerSpec spec;
    const text::Json tokenizer = text::parse_object(tokenizer_json, "tokenizer.json");
    const text::Json& model = text::model_of(tokenizer);
    text::read_vocabulary(tokenizer, model, spec);
    text::check_no_gaps(spec);
    text::read_merges(model, spec);
    spec.ignore_merges = text::bool_member(model, "ignore_merges", false);
    spec.fuse_unk = text::bool_member(model, "fuse_unk", false);
    text::read_rules(tokenizer, spec);
    text::read_unknown(model, spec);
    text::Json config = text::Json::object();
    if (!tokenizer_config_json.empty()) {
      config = text::parse_object(tokenizer_config_json, "tokenizer_config.json");
      text::read_config(config, spec);
    }
    text::derive_stop_tokens(spec);
    text::read_own_entry(config, spec);
    text::check_spec(spec);
    return spec;
  } catch (const text::Json::exception& error) {
    throw text::corrupt(fmt::format("tokenizer.json must have the types of its format: {}", error.what()));
  }
}

}  // namespace bitnet
