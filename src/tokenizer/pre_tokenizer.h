#pragma once

#include "bitnet/tokenizer/tokenizer.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::text {

/// How GGUF's tokenizer.ggml.pre names, and the rules they stand for.
struct PreTokenizerRules {
  std::string_view name;
  std::vector<std::string> patterns;
  bool byte_level_regex = false;
  bool split_digits = false;
  std::vector<std::string> byte_patterns;
  bool ignore_merges = false;
  bool add_bos = false;  ///< where the file does not say
};

/// ByteLevel(use_regex).
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
/// ASCII punctuation and symbols, and Unicode's: what Hugging Face's Punctuation and Digits pre-tokenizers
/// match.
inline constexpr std::string_view kPunctuationClass = R"([\p{P}\$\+<=>\^~\|`])";
inline constexpr std::string_view kDigitClass = R"(\p{N})";

/// The rules of that name, or null.
[[nodiscard]] const PreTokenizerRules* find_pre_tokenizer(std::string_view name);
[[nodiscard]] bool same_rules(const PreTokenizerRules& rules, const TokenizerSpec& spec);
/// The first known name with the spec's splitting rules, or "".
[[nodiscard]] std::string_view name_of_rules(const TokenizerSpec& spec);
/// Takes the splitting rules (not ignore_merges, not add_bos) over into the spec.
void apply_rules(const PreTokenizerRules& rules, TokenizerSpec& spec);
/// Whether the spec splits its text at all.
[[nodiscard]] bool has_rules(const TokenizerSpec& spec);

class Regex;

/// Splits text into the pieces inside which merges happen, with the rules of a byte-level spec. Immutable.
class PreTokenizer {
 public:
  /// Throws kUnsupported on a pattern that PCRE2 does not take.
  explicit PreTokenizer(const TokenizerSpec& spec);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  /// The pieces of a valid UTF-8 text, in order and without gaps. Never throws on any text: where a pattern
  /// runs into PCRE2's match limit, the rest of that piece stays whole and a warning is logged.
  [[nodiscard]] std::vector<std::string_view> split(std::string_view text) const;

 private:
  std::vector<Regex> text_stages_, byte_stages_;
};

}  // namespace bitnet::text
