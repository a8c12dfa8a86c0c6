#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/spec_parts.h"
#include "tokenizer/unicode.h"

#include <fmt/format.h>

namespace bitnet::text {

namespace {

// What the normalizer and the pre-tokenizers say, before it is known which kind of model it makes.
struct Rules {
  bool marks_spaces = false;  // " " becomes U+2581
  bool prepends_mark = false;
  bool metaspace = false;
  bool byte_level = false;
  bool splits_on_space = false;  // no effect once spaces are marked
};

// The steps of a Sequence (under the given key), or the one step itself. Depth is bounded: the file is
// untrusted.
std::vector<const Json*> steps_of(const Json* value, const char* sequence_key, int depth = 0) {
  if (value == nullptr) return {};
  if (depth > 8) throw corrupt(fmt::format("\"{}\" must not nest deeper than 8 levels", sequence_key));
  if (string_member(*value, "type") != "Sequence") return {value};
  std::vector<const Json*> steps;
  if (const Json* list = array_member(*value, sequence_key)) {
    for (const auto& step : *list) {
      for (const Json* inner : steps_of(&step, sequence_key, depth + 1)) steps.push_back(inner);
    }
  }
  return steps;
}

void read_normalizer(const Json& tokenizer, Rules& rules) {
  for (const Json* step : steps_of(member(tokenizer, "normalizer"), "normalizers")) {
    const std::string type = string_member(*step, "type");
    if (type == "Prepend" && string_member(*step, "prepend") == kSpaceMark) {
      rules.prepends_mark = true;
      continue;
    }
    const Json* pattern = type == "Replace" ? object_member(*step, "pattern") : nullptr;
    if (pattern != nullptr && string_member(*pattern, "String") == " " &&
        string_member(*step, "content") == kSpaceMark) {
      rules.marks_spaces = true;
      continue;
    }
    throw unsupported(fmt::format("the normalizer \"{}\" is not supported", type));
  }
}

std::string escaped(std::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    if (std::string_view(R"(\^$.[]|()?*+{}-#/ )").find(c) != std::string_view::npos) pattern.push_back('\\');
    pattern.push_back(c);
  }
  return pattern;
}

void read_split(const Json& step, Rules& rules, std::vector<std::string>& patterns) {
  const Json* pattern = object_member(step, "pattern");
  if (pattern == nullptr)
    throw corrupt("a Split pre-tokenizer must have a \"pattern\", but this one has none");
  const std::string literal = string_member(*pattern, "String"), regex = string_member(*pattern, "Regex");
  if (literal == " ") {
    rules.splits_on_space = true;
    return;
  }
  const std::string behavior = string_member(step, "behavior");
  if (behavior != "Isolated") {
    throw unsupported(
        fmt::format("a Split pre-tokenizer must be \"Isolated\", but this one is \"{}\"", behavior));
  }
  if (literal.empty() && regex.empty()) throw corrupt("a Split pattern must have a \"Regex\" or \"String\"");
  patterns.push_back(regex.empty() ? escaped(literal) : regex);
}

void read_metaspace(const Json& step, Rules& rules, TokenizerSpec& spec) {
  if (string_member(step, "replacement", kSpaceMark) != kSpaceMark) {
    throw unsupported("a Metaspace pre-tokenizer must replace by U+2581");
  }
  // Files from before prepend_scheme have add_prefix_space.
  const std::string scheme =
      string_member(step, "prepend_scheme", bool_member(step, "add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw unsupported(fmt::format("the Metaspace prepend_scheme \"{}\" is not supported", scheme));
  }
  rules.metaspace = true;
  spec.add_space_prefix = scheme != "never";
  spec.space_prefix_unless_space = spec.add_space_prefix;
  spec.space_prefix_first_only = scheme == "first";
  spec.split_spaces = bool_member(step, "split", true);
}

void read_byte_level(const Json& step, bool first, Rules& rules, TokenizerSpec& spec) {
  if (rules.byte_level) throw unsupported("two ByteLevel pre-tokenizers in a row are not supported");
  rules.byte_level = true;
  spec.byte_level_regex = bool_member(step, "use_regex", true);
  spec.add_space_prefix = bool_member(step, "add_prefix_space", true);
  if (spec.add_space_prefix && !first) {
    throw unsupported("ByteLevel with add_prefix_space after another pre-tokenizer is not supported");
  }
}

std::string punctuation_pattern(const Json& step) {
  const std::string behavior = string_member(step, "behavior", "Isolated");
  if (behavior == "Isolated") return std::string(kPunctuationClass);
  if (behavior == "Contiguous") return std::string(kPunctuationClass) + "+";
  throw unsupported(fmt::format("the Punctuation behavior \"{}\" is not supported", behavior));
}

void read_pre_tokenizer(const Json& tokenizer, Rules& rules, TokenizerSpec& spec) {
  bool first = true;
  for (const Json* step : steps_of(member(tokenizer, "pre_tokenizer"), "pretokenizers")) {
    const std::string type = string_member(*step, "type");
    auto& patterns = rules.byte_level ? spec.byte_patterns : spec.patterns;
    if (type == "ByteLevel") {
      read_byte_level(*step, first, rules, spec);
    } else if (type == "Split") {
      read_split(*step, rules, patterns);
    } else if (type == "Digits") {
      const bool individual = bool_member(*step, "individual_digits", false);
      if (individual && first) {
        spec.split_digits = true;
      } else {
        patterns.push_back(std::string(kDigitClass) + (individual ? "" : "+"));
      }
    } else if (type == "Punctuation") {
      patterns.push_back(punctuation_pattern(*step));
    } else if (type == "Metaspace") {
      read_metaspace(*step, rules, spec);
    } else {
      throw unsupported(fmt::format("the pre-tokenizer \"{}\" is not supported", type));
    }
    first = false;
  }
}

void check_decoder(const Json& tokenizer) {
  for (const Json* step : steps_of(member(tokenizer, "decoder"), "decoders")) {
    const std::string type = string_member(*step, "type");
    if (type != "ByteLevel" && type != "Replace" && type != "ByteFallback" && type != "Fuse" &&
        type != "Strip" && type != "Metaspace") {
      throw unsupported(fmt::format("the decoder \"{}\" is not supported", type));
    }
  }
}

int32_t template_token(const Json& processor, const Json& special, const TokenizerSpec& spec) {
  const std::string name = string_member(special, "id");
  const Json* table = object_member(processor, "special_tokens");
  const Json* entry = table == nullptr ? nullptr : object_member(*table, name.c_str());
  if (entry == nullptr) {
    const auto id = find_token(spec, name);
    if (!id) throw corrupt(fmt::format("the post_processor's token \"{}\" must be in the vocabulary", name));
    return *id;
  }
  const auto ids = token_ids(*entry, "ids", spec.tokens.size());
  if (ids.size() != 1) {
    throw unsupported(
        fmt::format("the post_processor's token \"{}\" must be one id, not {}", name, ids.size()));
  }
  return ids.front();
}

void read_template(const Json& processor, TokenizerSpec& spec) {
  const Json* single = array_member(processor, "single");
  if (single == nullptr) throw corrupt("a TemplateProcessing post_processor must have \"single\"");
  bool after_text = false;
  for (const auto& piece : *single) {
    if (object_member(piece, "Sequence") != nullptr) {
      if (after_text) throw unsupported("a post_processor template with the text twice is not supported");
      after_text = true;
      continue;
    }
    const Json* special = object_member(piece, "SpecialToken");
    if (special == nullptr)
      throw corrupt("a post_processor template must hold SpecialToken and Sequence only");
    bool& added = after_text ? spec.add_eos : spec.add_bos;
    if (added)
      throw unsupported("a post_processor template with several tokens on one side is not supported");
    added = true;
    (after_text ? spec.eos : spec.bos) = template_token(processor, *special, spec);
  }
}

void read_post_processor(const Json& tokenizer, TokenizerSpec& spec) {
  spec.add_bos = spec.add_eos = false;
  for (const Json* step : steps_of(member(tokenizer, "post_processor"), "processors")) {
    const std::string type = string_member(*step, "type");
    if (type == "TemplateProcessing") {
      read_template(*step, spec);
    } else if (type != "ByteLevel") {
      throw unsupported(fmt::format("the post_processor \"{}\" is not supported", type));
    }
  }
}

}  // namespace

void read_rules(const Json& tokenizer, TokenizerSpec& spec) {
  Rules rules;
  read_normalizer(tokenizer, rules);
  read_pre_tokenizer(tokenizer, rules, spec);
  check_decoder(tokenizer);
  read_post_processor(tokenizer, spec);

  const bool sentencepiece = rules.marks_spaces || rules.metaspace;
  if (sentencepiece == rules.byte_level) {
    throw unsupported(sentencepiece
                          ? "a tokenizer both byte-level and with U+2581 for spaces is not supported"
                          : "a BPE tokenizer must be byte-level or have U+2581 for spaces, not neither");
  }
  if (rules.byte_level) {
    if (rules.prepends_mark || rules.splits_on_space) {
      throw unsupported("a byte-level tokenizer that also handles spaces itself is not supported");
    }
    spec.model = TokenizerSpec::Model::kByteLevelBpe;
    spec.pre_tokenizer = name_of_rules(spec);
    return;
  }
  if (has_rules(spec))
    throw unsupported("a SentencePiece tokenizer that splits by patterns is not supported");
  if (rules.metaspace && (rules.marks_spaces || rules.prepends_mark)) {
    throw unsupported("a tokenizer that marks spaces both in normalizer and pre_tokenizer is not supported");
  }
  spec.model = TokenizerSpec::Model::kSentencePieceBpe;
  if (rules.prepends_mark) spec.add_space_prefix = true;
}

}  // namespace bitnet::text
