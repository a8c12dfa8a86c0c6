#include "bitnet/tokenizer/tokenizer.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "tokenizer/encoder.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/test_data.h"
#include "tokenizer/unicode.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

using tokenizer_test::byte_level_spec;
using tokenizer_test::data_path;
using tokenizer_test::random_text;

std::vector<int32_t> plain(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.encode(text, {.add_special = false});
}

template <class Call>
ErrorCode code_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_FALSE(error.message().empty());
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

// Ids of byte_level_spec(): a byte's token is the byte; the merges follow from 256 on.
constexpr int32_t kFirstMerge = 256;

TEST(ByteLevel, MergesByRankThenLeftmost) {
  const Tokenizer tokenizer(byte_level_spec({{"a", "b"}, {"b", "c"}, {"ab", "c"}, {"a", "a"}}, {}));
  EXPECT_EQ(plain(tokenizer, "abc"), (std::vector<int32_t>{kFirstMerge + 2}));  // ab before bc, then abc
  EXPECT_EQ(plain(tokenizer, "bcb"), (std::vector<int32_t>{kFirstMerge + 1, 'b'}));
  EXPECT_EQ(plain(tokenizer, "aaa"), (std::vector<int32_t>{kFirstMerge + 3, 'a'}));  // leftmost
  EXPECT_EQ(plain(tokenizer, "aab"), (std::vector<int32_t>{'a', kFirstMerge}));      // the better rank wins
}

TEST(ByteLevel, IgnoreMergesTakesWholePieces) {
  // "abc" is in the vocabulary through (a, bc), but ranks make "ab" first, so merging never gets there.
  auto spec = byte_level_spec({{"a", "b"}, {"b", "c"}, {"a", "bc"}}, {});
  EXPECT_EQ(plain(Tokenizer(spec), "abc"), (std::vector<int32_t>{kFirstMerge, 'c'}));
  spec.ignore_merges = true;
  EXPECT_EQ(plain(Tokenizer(spec), "abc"), (std::vector<int32_t>{kFirstMerge + 2}));
}

TEST(ByteLevel, InvalidUtf8IsTakenByteByByte) {
  const Tokenizer tokenizer(byte_level_spec({{"a", "b"}}, {}));
  EXPECT_EQ(plain(tokenizer, "ab\xFF\xC3"), (std::vector<int32_t>{kFirstMerge, 0xFF, 0xC3}));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{'a', 0xFF, 0xC3}), "a\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(tokenizer.token_bytes(0xFF), "\xFF");
}

TEST(Tokenizer, SpecialTokensAreParsedOnlyOnRequest) {
  auto spec = byte_level_spec({}, {"<|a|>", "<|a|>b"});
  const int32_t shorter = 256, longer = 257;
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(plain(tokenizer, "<|a|>").size(), 5U);
  EXPECT_EQ(tokenizer.encode("x<|a|>b<|a|>", {.parse_special = true}),
            (std::vector<int32_t>{'x', longer, shorter}));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{'x', longer}), "x");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{'x', longer}, true), "x<|a|>b");
  EXPECT_TRUE(tokenizer.is_special(shorter));
  EXPECT_EQ(tokenizer.find("<|a|>"), shorter);
  EXPECT_EQ(tokenizer.find("<|b|>"), std::nullopt);
  EXPECT_EQ(code_of([&] { (void)tokenizer.token_bytes(258); }), ErrorCode::kOutOfRange);
  EXPECT_EQ(code_of([&] { (void)tokenizer.decode(std::vector<int32_t>{-1}); }), ErrorCode::kOutOfRange);

  spec.types[shorter] = TokenType::kUserDefined;
  EXPECT_EQ(plain(Tokenizer(spec), "x<|a|>b"), (std::vector<int32_t>{'x', shorter, 'b'}));
}

TEST(Tokenizer, AddsBosAndEosAsTheSpecSays) {
  auto spec = byte_level_spec({}, {"<s>", "</s>"});
  spec.bos = 256;
  spec.eos = 257;
  spec.add_bos = spec.add_eos = true;
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.encode("a"), (std::vector<int32_t>{256, 'a', 257}));
  EXPECT_EQ(tokenizer.encode(""), (std::vector<int32_t>{256, 257}));
  EXPECT_EQ(plain(tokenizer, ""), std::vector<int32_t>{});
}

TokenizerSpec scored_spec() {
  TokenizerSpec spec;
  spec.model = TokenizerSpec::Model::kSentencePieceBpe;
  spec.tokens = {"<unk>",
                 "<s>",
                 "</s>",
                 "\xE2\x96\x81",
                 "a",
                 "b",
                 "c",
                 "ab",
                 "bc",
                 "\xE2\x96\x81"
                 "a",
                 "<0xC3>",
                 "<0xA9>"};
  spec.scores = {0, 0, 0, -1, -1, -1, -1, -5, -4, -6, 0, 0};
  spec.types.assign(spec.tokens.size(), TokenType::kNormal);
  spec.types[0] = TokenType::kUnknown;
  spec.types[1] = spec.types[2] = TokenType::kControl;
  spec.types[10] = spec.types[11] = TokenType::kByte;
  spec.unk = 0;
  spec.bos = 1;
  spec.eos = 2;
  spec.add_space_prefix = true;
  return spec;
}

TEST(SentencePiece, MergesByScoreFallsBackToBytesThenUnknown) {
  const Tokenizer tokenizer(scored_spec());
  EXPECT_EQ(plain(tokenizer, "abc"), (std::vector<int32_t>{9, 8}));  // bc (-4) before ab (-5); then _a
  EXPECT_EQ(plain(tokenizer, "ab"), (std::vector<int32_t>{3, 7}));
  EXPECT_EQ(plain(tokenizer, "b\xC3\xA9"), (std::vector<int32_t>{3, 5, 10, 11}));
  EXPECT_EQ(plain(tokenizer, "bz"), (std::vector<int32_t>{3, 5, 0}));
  EXPECT_EQ(tokenizer.encode("a"), (std::vector<int32_t>{1, 9}));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{1, 9, 3, 5, 10, 11}), "a b\xC3\xA9");
}

TEST(SentencePiece, TextNeverBecomesControlOrByteTokens) {
  auto spec = scored_spec();
  spec.tokens.insert(spec.tokens.end(), {"<", "<s", "s", ">", "<0"});
  spec.types.resize(spec.tokens.size(), TokenType::kNormal);
  spec.scores.resize(spec.tokens.size(), -1);
  const auto ids = plain(Tokenizer(spec), "<s>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 1), 0);
}

TEST(Tokenizer, DecodeOfEncodeIsTheText) {
  for (const char* name :
       {"storyteller", "llama3", "falcon", "splits", "gpt2", "llama2", "metaspace-never-whole"}) {
    const Tokenizer tokenizer(tokenizer_spec_from_folder(data_path(name)));
    for (uint32_t seed = 0; seed < 100; ++seed) {
      const std::string text = random_text(seed, 60);
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << name << ", seed " << seed;
    }
  }
}

TEST(Tokenizer, EncodeNeverThrowsOnAnyBytes) {
  std::mt19937 random(1);
  for (const char* name : {"storyteller", "falcon", "llama2", "llama2-no-bytes", "metaspace-first-split"}) {
    const Tokenizer tokenizer(tokenizer_spec_from_folder(data_path(name)));
    for (int round = 0; round < 200; ++round) {
      std::string bytes;
      for (int i = 0; i < 50; ++i)
        bytes.push_back(static_cast<char>(random() % 4 == 0 ? ' ' : random() % 256));
      const auto ids = tokenizer.encode(bytes, {.parse_special = true});
      EXPECT_TRUE(text::is_valid_utf8(tokenizer.decode(ids, true)));
    }
  }
}

TEST(Bpe, WorkGrowsLinearlyOnHostileText) {
  // Counted, not timed: at most 3 (n - 1) candidates enter the heap, whatever the text (tokenizer/bpe.h).
  const auto spec =
      byte_level_spec({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}, {"\xC4\xA0", "\xC4\xA0"}}, {});
  auto whole = spec;
  whole.pre_tokenizer.clear();
  const text::Vocabulary vocabulary(whole);
  const text::ByteLevelEncoder encoder(whole, vocabulary);
  for (const char letter : {'a', ' '}) {
    text::MergeScratch scratch;
    std::vector<int32_t> ids;
    const size_t length = 1 << 20;
    encoder.encode(std::string(length, letter), scratch, ids);
    EXPECT_LE(scratch.candidates, 3 * length);
    EXPECT_LT(ids.size(), length);
  }
}

TEST(PreTokenizer, PiecesCoverHostileTextWithoutGivingUp) {
  int warnings = 0;
  set_log_callback([&](LogLevel, std::string_view) { ++warnings; }, LogLevel::kWarning);
  const size_t length = 1 << 20;
  for (const char* name : {"llama-bpe", "gpt-2", "qwen2", "falcon"}) {
    TokenizerSpec spec;
    text::apply_rules(*text::find_pre_tokenizer(name), spec);
    const text::PreTokenizer pre_tokenizer(spec);
    for (const std::string& text :
         {std::string(length, ' '), std::string(length, 'a'), std::string(length, ' ') + "x",
          std::string(length, '\n'), std::string(length, '1'), std::string(length, '\''),
          std::string(length, '.') + "\n"}) {
      size_t covered = 0;
      for (const auto piece : pre_tokenizer.split(text)) covered += piece.size();
      EXPECT_EQ(covered, text.size()) << name;
    }
  }
  set_log_callback({});
  EXPECT_EQ(warnings, 0);
}

TEST(PreTokenizer, CatastrophicPatternGivesUpInsteadOfHanging) {
  int warnings = 0;
  set_log_callback([&](LogLevel, std::string_view) { ++warnings; }, LogLevel::kWarning);
  TokenizerSpec spec;
  spec.patterns = {"(a+)+[bc]"};
  const std::string text(200, 'a');
  const auto pieces = text::PreTokenizer(spec).split(text);
  set_log_callback({});
  ASSERT_EQ(pieces.size(), 1U);
  EXPECT_EQ(pieces[0], text);
  EXPECT_GT(warnings, 0);
}

TEST(PreTokenizer, BadPatternsAreRefused) {
  auto spec = byte_level_spec({}, {});
  for (const char* pattern : {"(", "[a", "\\C", "(?<=a+)b"}) {
    spec.patterns = {pattern};
    EXPECT_EQ(code_of([&] { Tokenizer{spec}; }), ErrorCode::kUnsupported) << pattern;
  }
  spec.patterns.clear();
  spec.pre_tokenizer = "no-such";
  EXPECT_EQ(code_of([&] { Tokenizer{spec}; }), ErrorCode::kUnsupported);
}

TEST(Tokenizer, DamagedSpecsAreRefused) {
  const auto good = byte_level_spec({{"a", "b"}}, {"<s>"});
  const auto refused = [&](const auto& damage) {
    auto spec = good;
    damage(spec);
    return code_of([&] { Tokenizer{spec}; }) == ErrorCode::kCorruptData;
  };
  EXPECT_TRUE(refused([](auto& spec) { spec.types.pop_back(); }));
  EXPECT_TRUE(refused([](auto& spec) { spec.scores = {1}; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.bos = 9999; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.stop_tokens = {-1}; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.tokens[5] = spec.tokens[6]; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.tokens[5] = "\xFF"; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.merges.emplace_back("x", "y"); }));
  EXPECT_TRUE(refused([](auto& spec) { spec = TokenizerSpec(); }));
}

TEST(StreamDecoder, GivesTheSameTextAsDecode) {
  for (const char* name : {"storyteller", "llama2", "metaspace-never-whole"}) {
    const Tokenizer tokenizer(tokenizer_spec_from_folder(data_path(name)));
    std::mt19937 random(3);
    for (int round = 0; round < 200; ++round) {
      std::vector<int32_t> ids;  // any ids, so that characters are cut and mixed
      for (int i = 0; i < 30; ++i)
        ids.push_back(static_cast<int32_t>(random() % std::min(tokenizer.vocab_size(), 400)));
      for (const bool special : {false, true}) {
        StreamDecoder decoder(tokenizer, special);
        std::string text;
        for (const int32_t id : ids) {
          const std::string part = decoder.push(id);
          EXPECT_TRUE(text::is_valid_utf8(part));
          text += part;
        }
        EXPECT_EQ(text + decoder.finish(), tokenizer.decode(ids, special));
      }
    }
  }
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsWhole) {
  const Tokenizer tokenizer(byte_level_spec({}, {}));
  const std::string text = "a\xC3\xA9\xE6\x9D\xB1\xF0\x9F\x98\x80!";
  StreamDecoder decoder(tokenizer);
  std::string got;
  for (const char c : text) {
    got += decoder.push(static_cast<uint8_t>(c));
    EXPECT_EQ(got, text.substr(0, got.size()));
    EXPECT_TRUE(text::is_valid_utf8(got));
  }
  EXPECT_EQ(got, text);
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, ReplacesMaximalSubparts) {
  const Tokenizer tokenizer(byte_level_spec({}, {}));
  const std::string r(text::kReplacementUtf8);
  // Unicode 15, section 3.9, table 3-8, and the tables beside it.
  const std::pair<std::string, std::string> cases[] = {
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
       "A",
       r + r + r + r + r + r + r + r + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
       "A",
       r + r + r + r + r + r + r + r + "A"},
      {"\xF4\x91\x92\x93\xFF"
       "A\x80\xBF"
       "B",
       r + r + r + r + r + "A" + r + r + "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
       "A",
       r + r + r + r + "A"},
      {"\xE2\x82", r},
  };
  for (const auto& [bytes, expected] : cases) {
    StreamDecoder decoder(tokenizer);
    std::string got;
    for (const char c : bytes) got += decoder.push(static_cast<uint8_t>(c));
    EXPECT_EQ(got + decoder.finish(), expected);
    EXPECT_EQ(text::to_valid_utf8(bytes), expected);
  }
}

TEST(Unicode, ByteAlphabetIsGpt2s) {
  EXPECT_EQ(text::byte_to_alphabet(' '), "\xC4\xA0");
  EXPECT_EQ(text::byte_to_alphabet('\n'), "\xC4\x8A");
  EXPECT_EQ(text::byte_to_alphabet('a'), "a");
  EXPECT_EQ(text::byte_to_alphabet(0xAD), "\xC5\x83");
  for (int b = 0; b < 256; ++b) {
    const auto byte = static_cast<uint8_t>(b);
    const auto character = text::decode_front(text::byte_to_alphabet(byte));
    EXPECT_EQ(text::byte_from_alphabet(character.code), byte);
  }
  EXPECT_EQ(text::byte_from_alphabet(' '), std::nullopt);
  EXPECT_EQ(text::byte_from_alphabet(0x10FFFF), std::nullopt);
}

}  // namespace
}  // namespace bitnet
