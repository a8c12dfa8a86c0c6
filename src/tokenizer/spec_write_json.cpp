#include "bitnet/core/atomic_file.h"
#include "tokenizer/bpe.h"
#include "tokenizer/encoder.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/spec_parts.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

namespace bitnet {

namespace text {

namespace {

using Model = TokenizerSpec::Model;
using OrderedJson = nlohmann::ordered_json;
using Merges = std::vector<std::pair<std::string, std::string>>;

bool has_byte_tokens(const TokenizerSpec& spec) {
  return std::find(spec.types.begin(), spec.types.end(), TokenType::kByte) != spec.types.end();
}

// tokenizer.json knows merges only. Every way to make a token from two others, best scores first.
Merges merges_from_scores(const TokenizerSpec& spec) {
  const TokenMap map(spec.tokens);
  std::vector<std::tuple<float, int32_t, int32_t, int32_t>> found;  // minus score, token, left, right
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.types[id] != TokenType::kNormal) continue;
    const std::string_view token = spec.tokens[id];
    for (size_t at = decode_front(token).length; at < token.size();
         at += decode_front(token.substr(at)).length) {
      const int32_t left = map.find(token.substr(0, at)), right = map.find(token.substr(at));
      if (left >= 0 && right >= 0)
        found.emplace_back(-spec.scores[id], static_cast<int32_t>(id), left, right);
    }
  }
  std::sort(found.begin(), found.end());
  Merges merges;
  for (const auto& [score, id, left, right] : found)
    merges.emplace_back(spec.tokens[left], spec.tokens[right]);
  return merges;
}

OrderedJson split_step(const std::string& pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

OrderedJson byte_level_step(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

OrderedJson metaspace_step(const TokenizerSpec& spec) {
  const char* scheme = !spec.add_space_prefix ? "never" : spec.space_prefix_first_only ? "first" : "always";
  return {{"type", "Metaspace"},
          {"replacement", kSpaceMark},
          {"prepend_scheme", scheme},
          {"split", spec.split_spaces}};
}

// Metaspace puts no second space before a text that has one; the normalizer of Llama-2 does.
bool needs_metaspace(const TokenizerSpec& spec) {
  return spec.space_prefix_unless_space || spec.split_spaces;
}

OrderedJson pre_tokenizer(const TokenizerSpec& spec) {
  if (spec.model == Model::kSentencePieceBpe)
    return needs_metaspace(spec) ? metaspace_step(spec) : OrderedJson();
  OrderedJson steps = OrderedJson::array();
  if (spec.split_digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  for (const auto& pattern : spec.patterns) steps.push_back(split_step(pattern));
  if (spec.add_space_prefix && !steps.empty()) {
    throw unsupported("tokenizer.json cannot say add_space_prefix together with split patterns");
  }
  steps.push_back(byte_level_step(spec.add_space_prefix, spec.byte_level_regex));
  for (const auto& pattern : spec.byte_patterns) steps.push_back(split_step(pattern));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

OrderedJson normalizer(const TokenizerSpec& spec) {
  if (spec.model == Model::kByteLevelBpe) return {};
  if (spec.add_space_prefix && !spec.space_prefix_unless_space &&
      (spec.space_prefix_first_only || spec.split_spaces)) {
    throw unsupported(
        "tokenizer.json can say space_prefix_first_only and split_spaces only with "
        "space_prefix_unless_space");
  }
  if (needs_metaspace(spec)) return {};
  OrderedJson steps = OrderedJson::array();
  if (spec.add_space_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kSpaceMark}});
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMark}});
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

OrderedJson decoder(const TokenizerSpec& spec) {
  if (spec.model == Model::kByteLevelBpe) return byte_level_step(true, true);
  OrderedJson steps = OrderedJson::array();
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", kSpaceMark}}}, {"content", " "}});
  steps.push_back(OrderedJson::object({{"type", "ByteFallback"}}));
  steps.push_back(OrderedJson::object({{"type", "Fuse"}}));
  if (spec.add_space_prefix)
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

OrderedJson post_processor(const TokenizerSpec& spec) {
  const bool add_bos = spec.add_bos && spec.bos, add_eos = spec.add_eos && spec.eos;
  if (!add_bos && !add_eos) {
    return spec.model == Model::kByteLevelBpe ? byte_level_step(true, true) : OrderedJson();
  }
  OrderedJson single = OrderedJson::array(), pair = OrderedJson::array(), tokens = OrderedJson::object();
  const auto add_token = [&](int32_t id, OrderedJson& list, int type_id) {
    const std::string& text = spec.tokens[id];
    list.push_back({{"SpecialToken", {{"id", text}, {"type_id", type_id}}}});
    tokens[text] = {{"id", text}, {"ids", OrderedJson::array({id})}, {"tokens", OrderedJson::array({text})}};
  };
  const auto add_text = [&](const char* name, int type_id, OrderedJson& list) {
    if (add_bos) add_token(*spec.bos, list, type_id);
    list.push_back({{"Sequence", {{"id", name}, {"type_id", type_id}}}});
    if (add_eos) add_token(*spec.eos, list, type_id);
  };
  add_text("A", 0, single);
  add_text("A", 0, pair);
  add_text("B", 1, pair);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

OrderedJson added_tokens(const TokenizerSpec& spec) {
  OrderedJson list = OrderedJson::array();
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const TokenType type = spec.types[id];
    const bool special = type == TokenType::kControl || type == TokenType::kUnknown;
    if (!special && type != TokenType::kUserDefined) continue;
    list.push_back({{"id", id},
                    {"content", spec.tokens[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", special}});
  }
  return list;
}

OrderedJson model(const TokenizerSpec& spec) {
  OrderedJson merges = OrderedJson::array();
  const bool by_scores = spec.merges.empty() && !spec.scores.empty();
  for (const auto& [left, right] : by_scores ? merges_from_scores(spec) : spec.merges) {
    merges.push_back({left, right});
  }
  // Filled as the list of pairs that it is: ordered_json's own insertion looks through all the keys before.
  OrderedJson::object_t vocabulary;
  OrderedJson::object_t::Container& entries = vocabulary;
  entries.reserve(spec.tokens.size());
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].empty())
      throw unsupported(fmt::format("tokenizer.json cannot hold the empty token {}", id));
    entries.emplace_back(spec.tokens[id], id);
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", spec.unk ? OrderedJson(spec.tokens[*spec.unk]) : OrderedJson()},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", spec.fuse_unk},
          {"byte_fallback", has_byte_tokens(spec)},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

// The type that reading tokenizer.json gives.
TokenType type_read_back(const TokenizerSpec& spec, int32_t id, bool byte_fallback) {
  const bool sentencepiece = spec.model == Model::kSentencePieceBpe;
  const TokenType type = spec.types[id];
  if (sentencepiece && spec.unk == id) return TokenType::kUnknown;
  if (type == TokenType::kUnknown) return TokenType::kControl;
  if (type == TokenType::kControl || type == TokenType::kUserDefined) return type;
  return byte_fallback && byte_of_token(spec.tokens[id]) >= 0 ? TokenType::kByte : TokenType::kNormal;
}

OrderedJson own_entry(const TokenizerSpec& spec) {
  OrderedJson own = {{"pre_tokenizer", spec.pre_tokenizer}, {"stop_tokens", spec.stop_tokens}};
  OrderedJson types = OrderedJson::array();
  const bool byte_fallback = has_byte_tokens(spec);
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (type_read_back(spec, id, byte_fallback) != spec.types[i])
      types.push_back({id, static_cast<int>(spec.types[i])});
  }
  if (!types.empty()) own["token_types"] = types;
  if (spec.scores.empty()) return own;
  own["scores"] = spec.scores;
  own["merges_from_scores"] = spec.merges.empty();
  return own;
}

OrderedJson tokenizer_config(const TokenizerSpec& spec) {
  OrderedJson config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                        {"clean_up_tokenization_spaces", false},
                        {"add_bos_token", spec.add_bos},
                        {"add_eos_token", spec.add_eos}};
  const std::pair<const char*, std::optional<int32_t>> ids[] = {
      {"bos_token", spec.bos}, {"eos_token", spec.eos}, {"unk_token", spec.unk}, {"pad_token", spec.pad}};
  for (const auto& [key, id] : ids) {
    if (id) config[key] = spec.tokens[*id];
  }
  if (!spec.chat_template.empty()) config["chat_template"] = spec.chat_template;
  config[kOwnEntry] = own_entry(spec);
  return config;
}

void write_json(const std::filesystem::path& path, const OrderedJson& json) {
  AtomicFile file(path);
  file.write(json.dump(1) + "\n");
  file.commit();
}

}  // namespace

}  // namespace text

void write_tokenizer_files(const TokenizerSpec& spec, const std::filesystem::path& folder) {
  text::check_spec(spec);
  const text::OrderedJson tokenizer = {{"version", "1.0"},
                                       {"truncation", nullptr},
                                       {"padding", nullptr},
                                       {"added_tokens", text::added_tokens(spec)},
                                       {"normalizer", text::normalizer(spec)},
                                       {"pre_tokenizer", text::pre_tokenizer(spec)},
                                       {"post_processor", text::post_processor(spec)},
                                       {"decoder", text::decoder(spec)},
                                       {"model", text::model(spec)}};
  text::write_json(folder / "tokenizer.json", tokenizer);
  text::write_json(folder / "tokenizer_config.json", text::tokenizer_config(spec));
}

}  // namespace bitnet
