#include "tokenizer/pre_tokenizer.h"

namespace bitnet::text {

namespace {

// BitNet 2B-4T's own (docs/TOKENIZERS.md), shared by all tokenizers that descend from Llama-3's.
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

PreTokenizerRules llama3(std::string_view name) {
  return {.name = name,
          .patterns = {std::string(kLlama3Pattern)},
          .byte_patterns = {},
          .ignore_merges = true,
          .add_bos = true};
}

PreTokenizerRules gpt2(std::string_view name, bool split_digits = false) {
  return {.name = name,
          .patterns = {},
          .byte_level_regex = true,
          .split_digits = split_digits,
          .byte_patterns = {}};
}

// The order matters: name_of_rules() answers with the first of several names for one thing.
const std::vector<PreTokenizerRules>& known_rules() {
  static const std::vector<PreTokenizerRules> rules = {
      llama3("llama-bpe"),
      llama3("llama3"),
      llama3("llama-v3"),
      llama3("falcon3"),
      llama3("falcon_e"),
      {.name = "smaug-bpe", .patterns = {std::string(kLlama3Pattern)}, .byte_patterns = {}},
      {.name = "dbrx", .patterns = {std::string(kLlama3Pattern)}, .byte_patterns = {}},
      {.name = "qwen2", .patterns = {std::string(kQwen2Pattern)}, .byte_patterns = {}},
      gpt2("gpt-2"),
      gpt2("phi-2"),
      gpt2("olmo"),
      gpt2("mpt"),
      gpt2("starcoder", true),
      gpt2("refact", true),
      gpt2("command-r", true),
      gpt2("smollm", true),
      {.name = "falcon",
       .patterns = {std::string(kPunctuationClass) + "+"},
       .byte_level_regex = true,
       .byte_patterns = {std::string(kDigitClass) + "+", "[0-9][0-9][0-9]"}},
  };
  return rules;
}

}  // namespace

const PreTokenizerRules* find_pre_tokenizer(std::string_view name) {
  for (const auto& rules : known_rules()) {
    if (rules.name == name) return &rules;
  }
  return nullptr;
}

bool same_rules(const PreTokenizerRules& rules, const TokenizerSpec& spec) {
  return rules.patterns == spec.patterns && rules.byte_level_regex == spec.byte_level_regex &&
         rules.split_digits == spec.split_digits && rules.byte_patterns == spec.byte_patterns;
}

std::string_view name_of_rules(const TokenizerSpec& spec) {
  for (const auto& rules : known_rules()) {
    if (same_rules(rules, spec)) return rules.name;
  }
  return "";
}

void apply_rules(const PreTokenizerRules& rules, TokenizerSpec& spec) {
  spec.patterns = rules.patterns;
  spec.byte_level_regex = rules.byte_level_regex;
  spec.split_digits = rules.split_digits;
  spec.byte_patterns = rules.byte_patterns;
}

bool has_rules(const TokenizerSpec& spec) {
  return !spec.patterns.empty() || spec.byte_level_regex || spec.split_digits || !spec.byte_patterns.empty();
}

}  // namespace bitnet::text
