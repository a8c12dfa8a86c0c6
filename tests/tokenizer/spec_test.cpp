#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/io/gguf.h"
#include "bitnet/tokenizer/tokenizer.h"
#include "temporary_folder.h"
#include "tokenizer/test_data.h"

#include <algorithm>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace bitnet {
namespace {

using Json = nlohmann::json;
using tokenizer_test::byte_level_spec;
using tokenizer_test::data_path;
using tokenizer_test::random_text;

constexpr const char* kSmall = R"({"added_tokens":[{"id":3,"content":"<s>","special":true},
  {"id":4,"content":"<x>","special":false}],
  "normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
  "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
    {"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[3],"tokens":["<s>"]}}},
  "decoder":{"type":"ByteLevel"},
  "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";

/// What is thrown by reading the JSON (and the config): code and message.
std::pair<ErrorCode, std::string> refusal(std::string_view json, std::string_view config = {}) {
  try {
    Tokenizer tokenizer(tokenizer_spec_from_json(json, config));
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::kInternal, "nothing was thrown"};
}

/// kSmall with one member replaced; `path` is a JSON pointer.
std::string changed(const char* path, const char* value) {
  Json json = Json::parse(kSmall);
  json[Json::json_pointer(path)] = Json::parse(value);
  return json.dump();
}

TEST(TokenizerJson, ReadsTokensTypesMergesAndRules) {
  const auto spec =
      tokenizer_spec_from_json(kSmall, R"({"eos_token":{"content":"<s>"},"chat_template":"T"})");
  EXPECT_EQ(spec.tokens, (std::vector<std::string>{"a", "b", "ab", "<s>", "<x>"}));
  EXPECT_EQ(spec.types[3], TokenType::kControl);
  EXPECT_EQ(spec.types[4], TokenType::kUserDefined);
  EXPECT_EQ(spec.merges, (std::vector<std::pair<std::string, std::string>>{{"a", "b"}}));
  EXPECT_EQ(spec.pre_tokenizer, "gpt-2");
  EXPECT_TRUE(spec.add_bos);
  EXPECT_EQ(spec.bos, 3);
  EXPECT_EQ(spec.eos, 3);
  EXPECT_EQ(spec.stop_tokens, std::vector<int32_t>{3});
  EXPECT_EQ(spec.chat_template, "T");
  EXPECT_FALSE(tokenizer_spec_from_json(kSmall, R"({"add_bos_token":false})").add_bos);
}

TEST(TokenizerJson, FolderFilesGiveStopTokens) {
  const testing::TemporaryFolder folder;
  std::filesystem::copy(data_path("llama3"), folder.path());
  std::ofstream(folder / "generation_config.json") << R"({"eos_token_id":[901,5]})";
  std::ofstream(folder / "chat_template.jinja") << "jinja";
  const auto spec = tokenizer_spec_from_folder(folder.path());
  const auto named = [&](const char* text) {
    return static_cast<int32_t>(std::find(spec.tokens.begin(), spec.tokens.end(), text) -
                                spec.tokens.begin());
  };
  EXPECT_EQ(spec.stop_tokens, (std::vector<int32_t>{5, named("<|end_of_text|>"), named("<|eot_id|>")}));
  EXPECT_EQ(spec.chat_template, "jinja");
  std::ofstream(folder / "generation_config.json") << R"({"eos_token_id":[99999]})";
  EXPECT_THROW((void)tokenizer_spec_from_folder(folder.path()), Error);
  EXPECT_THROW((void)tokenizer_spec_from_folder(folder / "none"), Error);
}

TEST(TokenizerJson, UnsupportedKindsAreNamed) {
  const std::pair<std::string, const char*> cases[] = {
      {changed("/model/type", R"("WordPiece")"), "WordPiece"},
      {changed("/model/type", R"("Unigram")"), "Unigram"},
      {changed("/model/dropout", "0.1"), "dropout"},
      {changed("/model/end_of_word_suffix", R"("</w>")"), "end_of_word_suffix"},
      {changed("/normalizer", R"({"type":"NFC"})"), "NFC"},
      {changed("/normalizer", R"({"type":"Sequence","normalizers":[{"type":"Lowercase"}]})"), "Lowercase"},
      {changed("/pre_tokenizer", R"({"type":"Whitespace"})"), "Whitespace"},
      {changed("/pre_tokenizer", "null"), "neither"},
      {changed("/pre_tokenizer", R"({"type":"Split","pattern":{"Regex":"a"},"behavior":"Removed"})"),
       "Removed"},
      {changed("/post_processor", R"({"type":"BertProcessing"})"), "BertProcessing"},
      {changed("/decoder", R"({"type":"CTC"})"), "CTC"},
  };
  for (const auto& [json, name] : cases) {
    const auto [code, message] = refusal(json);
    EXPECT_EQ(code, ErrorCode::kUnsupported) << message;
    EXPECT_NE(message.find(name), std::string::npos) << message;
  }
}

TEST(TokenizerJson, CorruptFilesAreRefused) {
  const std::string cases[] = {"",
                               "null",
                               "[]",
                               "{",
                               "{}",
                               R"({"model":{"type":"BPE"}})",
                               "\xFF",
                               R"({"model":[]})",
                               changed("/model/vocab", "[]"),
                               changed("/model/vocab/a", "-1"),
                               changed("/model/vocab/a", "1"),
                               changed("/model/vocab/a", "99"),
                               changed("/model/vocab/a", "0.5"),
                               changed("/model/vocab/a", "\"0\""),
                               changed("/model/vocab/a", "18446744073709551615"),
                               changed("/model/vocab", "{}"),
                               changed("/model/merges", "{}"),
                               changed("/model/merges", R"(["ab"])"),
                               changed("/model/merges", R"(["a b c"])"),
                               changed("/model/merges", R"([["a"]])"),
                               changed("/model/merges", R"(["a x"])"),
                               changed("/model/merges", "[1]"),
                               changed("/model/unk_token", R"("?")"),
                               changed("/model/ignore_merges", "1"),
                               changed("/added_tokens/0/id", "0"),
                               changed("/added_tokens/0/id", "null"),
                               changed("/added_tokens/0/content", "7"),
                               changed("/added_tokens/0/content", R"("a")"),
                               changed("/added_tokens", "1"),
                               changed("/added_tokens", "[1]"),
                               changed("/added_tokens/0/content", R"("")"),
                               changed("/pre_tokenizer", "7"),
                               changed("/post_processor/special_tokens/<s>/ids", "[77]"),
                               changed("/post_processor/single", "null"),
                               changed("/post_processor/single/0", R"({"Else":1})")};
  for (const auto& json : cases) {
    const auto [code, message] = refusal(json);
    EXPECT_EQ(code, ErrorCode::kCorruptData) << json << "\n" << message;
  }
  for (const char* config : {"[", "[]", R"({"bos_token":7})", R"({"chat_template":7})",
                             R"({"add_bos_token":"no"})", R"({"bitnet":{"scores":[1]}})",
                             R"({"bitnet":{"token_types":[[0,0]]}})", R"({"bitnet":{"stop_tokens":[9]}})"}) {
    const auto [code, message] = refusal(kSmall, config);
    EXPECT_EQ(code, ErrorCode::kCorruptData) << config << "\n" << message;
  }
}

TEST(TokenizerJson, DeepNestingIsRefused) {
  std::string nested = "\"normalizer\":";
  for (int i = 0; i < 100000; ++i) nested += R"({"type":"Sequence","normalizers":[)";
  for (int i = 0; i < 100000; ++i) nested += "]}";
  std::string json = kSmall;
  json.replace(json.find("\"normalizer\":null"), 17, nested);
  EXPECT_EQ(refusal(json).first, ErrorCode::kCorruptData);
}

TEST(TokenizerJson, EveryTruncationIsRefused) {
  const std::string json = kSmall;
  for (size_t length = 0; length < json.size(); ++length) {
    EXPECT_EQ(refusal(std::string_view(json).substr(0, length)).first, ErrorCode::kCorruptData) << length;
  }
}

TEST(TokenizerJson, EveryChangedByteIsReadOrRefused) {
  for (size_t at = 0; at < std::string_view(kSmall).size(); ++at) {
    for (const char byte : {'\0', '"', '}', '9', '\xFF'}) {
      std::string json = kSmall;
      json[at] = byte;
      try {
        (void)Tokenizer(tokenizer_spec_from_json(json)).encode("ab <s>", {.parse_special = true});
      } catch (const Error& error) {
        EXPECT_NE(error.code(), ErrorCode::kInternal);
      }
    }
  }
}

void expect_same_encoding(const TokenizerSpec& a, const TokenizerSpec& b) {
  const Tokenizer first(a), second(b);
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const std::string text = random_text(seed, 50);
    EXPECT_EQ(first.encode(text), second.encode(text)) << text;
  }
}

/// The specs of every reference tokenizer, and hand-made ones with what those lack.
std::vector<TokenizerSpec> many_specs() {
  std::vector<TokenizerSpec> specs;
  for (const auto& entry : std::filesystem::directory_iterator(data_path(""))) {
    if (entry.is_directory()) specs.push_back(tokenizer_spec_from_folder(entry.path()));
  }
  auto spec = byte_level_spec({{"a", "b"}}, {"<s>", "<unused>", "</s>"});
  spec.patterns = {"[a-z]+"};
  spec.pre_tokenizer = "";
  spec.types[258] = TokenType::kUnused;
  spec.bos = 257;
  spec.eos = spec.pad = 259;
  spec.add_bos = spec.add_eos = spec.ignore_merges = true;
  spec.stop_tokens = {1, 259};
  spec.chat_template = "{{ bos }}";
  specs.push_back(spec);
  spec = byte_level_spec({}, {});  // a second name for the rules of llama-bpe
  spec.pre_tokenizer = "falcon3";
  spec.patterns = tokenizer_spec_from_folder(data_path("llama3")).patterns;
  specs.push_back(spec);
  specs.push_back(TokenizerSpec());
  specs.back().model = TokenizerSpec::Model::kSentencePieceBpe;
  specs.back().tokens = {"<unk>", "<s>", "</s>", "\xE2\x96\x81", "a", "b", "ab", "<0x0A>"};
  specs.back().types = {TokenType::kUnknown, TokenType::kControl, TokenType::kControl, TokenType::kNormal,
                        TokenType::kNormal,  TokenType::kNormal,  TokenType::kNormal,  TokenType::kByte};
  specs.back().scores = {0, 0, 0, -0.1F, -2, -3, -1.7F, 0};
  specs.back().unk = 0;
  specs.back().bos = 1;
  specs.back().eos = 2;
  specs.back().add_space_prefix = specs.back().fuse_unk = true;
  specs.back().stop_tokens = {2};
  return specs;
}

TEST(TokenizerFiles, ReadBackAsTheSameSpec) {
  for (const auto& spec : many_specs()) {
    const testing::TemporaryFolder folder;
    write_tokenizer_files(spec, folder.path());
    const auto again = tokenizer_spec_from_folder(folder.path());
    EXPECT_TRUE(again == spec) << spec.tokens.size() << " tokens";
    expect_same_encoding(spec, again);
  }
}

TokenizerSpec through_gguf(const TokenizerSpec& spec) {
  const testing::TemporaryFolder folder;
  GgufWriter writer(folder / "vocabulary.gguf");
  writer.add("general.architecture", GgufValue::string("llama"));
  add_tokenizer_to_gguf(spec, writer);
  writer.begin();
  writer.finish();
  return tokenizer_spec_from_gguf(GgufFile::open(folder / "vocabulary.gguf")).value();
}

TEST(TokenizerGguf, ReadsBackAsTheSameSpec) {
  for (const auto& spec : many_specs()) {
    const auto again = through_gguf(spec);
    EXPECT_TRUE(again == spec) << spec.tokens.size() << " tokens";
    expect_same_encoding(spec, again);
  }
}

TEST(TokenizerFiles, ScoresSurviveAsMergesForOtherReaders) {
  auto spec = many_specs().back();
  const testing::TemporaryFolder folder;
  write_tokenizer_files(spec, folder.path());
  std::filesystem::remove(folder / "tokenizer_config.json");
  const auto merges_only = tokenizer_spec_from_folder(folder.path());
  EXPECT_TRUE(merges_only.scores.empty());
  EXPECT_EQ(merges_only.merges, (std::vector<std::pair<std::string, std::string>>{{"a", "b"}}));
  expect_same_encoding(spec, merges_only);
}

/// A vocabulary-only GGUF file with this tokenizer's tokens and merges and whatever else `add` puts in.
template <class Add>
std::optional<TokenizerSpec> from_gguf(const TokenizerSpec& spec, const Add& add) {
  const testing::TemporaryFolder folder;
  GgufWriter writer(folder / "v.gguf");
  writer.add("tokenizer.ggml.tokens", GgufValue::strings(spec.tokens));
  std::vector<std::string> merges;
  for (const auto& [left, right] : spec.merges) merges.push_back(left + " " + right);
  writer.add("tokenizer.ggml.merges", GgufValue::strings(merges));
  add(writer);
  writer.begin();
  writer.finish();
  return tokenizer_spec_from_gguf(GgufFile::open(folder / "v.gguf"));
}

TEST(TokenizerGguf, PreTokenizerNamesAndTheirAbsence) {
  const auto base = byte_level_spec({{"a", "b"}}, {"<s>"});
  const auto read = [&](const char* architecture, const char* pre) {
    return from_gguf(base,
                     [&](GgufWriter& writer) {
                       writer.add("tokenizer.ggml.model", GgufValue::string("gpt2"));
                       writer.add("general.architecture", GgufValue::string(architecture));
                       writer.add("tokenizer.ggml.bos_token_id", GgufValue::u32(257));
                       if (pre != nullptr) writer.add("tokenizer.ggml.pre", GgufValue::string(pre));
                     })
        .value();
  };
  int warnings = 0;
  set_log_callback([&](LogLevel, std::string_view) { ++warnings; }, LogLevel::kWarning);
  EXPECT_EQ(read("llama", nullptr).pre_tokenizer, "gpt-2");
  EXPECT_EQ(read("bitnet-b1.58", nullptr).pre_tokenizer, "llama-bpe");
  EXPECT_EQ(read("bitnet-25", "default").pre_tokenizer, "llama-bpe");
  set_log_callback({});
  EXPECT_EQ(warnings, 3);
  for (const char* name : {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon_e"}) {
    const auto spec = read("llama", name);
    EXPECT_EQ(spec.pre_tokenizer, name);
    EXPECT_TRUE(spec.ignore_merges && spec.add_bos);
    EXPECT_EQ(spec.patterns, tokenizer_spec_from_folder(data_path("llama3")).patterns);
  }
  EXPECT_FALSE(read("llama", "smaug-bpe").ignore_merges);
  EXPECT_EQ(read("llama", "falcon").byte_patterns.size(), 2U);
  EXPECT_EQ(read("llama", "gpt-2").types[257], TokenType::kControl);
  EXPECT_THROW((void)read("llama", "some-new-name"), Error);
}

TEST(TokenizerGguf, OddModelsAndDamageAreRefused) {
  const auto base = byte_level_spec({{"a", "b"}}, {"<s>"});
  const auto code = [&](const auto& add) {
    try {
      (void)from_gguf(base, add);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  const auto model = [](const char* name) {
    return [=](GgufWriter& writer) { writer.add("tokenizer.ggml.model", GgufValue::string(name)); };
  };
  EXPECT_EQ(from_gguf(base, [](GgufWriter&) {}), std::nullopt);
  EXPECT_EQ(from_gguf(base, model("no_vocab")), std::nullopt);
  EXPECT_EQ(code(model("bert")), ErrorCode::kUnsupported);
  const auto with = [&](const char* key, const GgufValue& value) {
    return code([&](GgufWriter& writer) {
      writer.add("tokenizer.ggml.model", GgufValue::string("gpt2"));
      writer.add(key, value);
    });
  };
  EXPECT_EQ(with("tokenizer.ggml.bos_token_id", GgufValue::u32(258)), ErrorCode::kCorruptData);
  EXPECT_EQ(with("tokenizer.ggml.token_type", GgufValue::i32_array({1, 2})), ErrorCode::kCorruptData);
  EXPECT_EQ(with("tokenizer.ggml.token_type", GgufValue::i32_array(std::vector<int32_t>(258, 7))),
            ErrorCode::kCorruptData);
  EXPECT_EQ(with("tokenizer.ggml.pre", GgufValue::u32(1)), ErrorCode::kCorruptData);
  EXPECT_EQ(with("bitnet.tokenizer.stop_tokens", GgufValue::i32_array({258})), ErrorCode::kCorruptData);
}

}  // namespace
}  // namespace bitnet
