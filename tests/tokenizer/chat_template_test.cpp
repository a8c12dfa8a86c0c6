#include "bitnet/tokenizer/chat_template.h"

#include "bitnet/core/error.h"
#include "tokenizer/test_data.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

using tokenizer_test::byte_level_spec;
using tokenizer_test::data_path;

const std::vector<ChatMessage> kMessages = {
    {"system", "Be brief."}, {"user", " Hi! \n"}, {"assistant", "Hello."}, {"user", "Bye"}};

TokenizerSpec llama3_spec() {
  auto spec = byte_level_spec(
      {}, {"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"});
  spec.bos = 256;
  spec.eos = 257;
  spec.add_bos = true;
  return spec;
}

TokenizerSpec chatml_spec() {
  auto spec = byte_level_spec({}, {"<|im_start|>", "<|im_end|>", "<|endoftext|>"});
  spec.eos = 257;
  return spec;
}

/// With one byte per token, ids are the text itself but for special tokens.
void expect_ids_are_the_text(const Tokenizer& tokenizer, ChatTemplate chat_template,
                             const std::string& expected, bool prompt = true) {
  EXPECT_EQ(render_chat(tokenizer, chat_template, kMessages, prompt), expected);
  const auto ids = encode_chat(tokenizer, chat_template, kMessages, prompt);
  EXPECT_EQ(ids, tokenizer.encode(expected, {.add_special = false, .parse_special = true}));
}

TEST(ChatTemplate, BitnetHasNoNewlinesBetweenTurns) {
  const Tokenizer tokenizer(llama3_spec());
  const std::string turns =
      "<|begin_of_text|>System: Be brief.<|eot_id|>User: Hi!<|eot_id|>Assistant: Hello.<|eot_id|>User: "
      "Bye<|eot_id|>";
  expect_ids_are_the_text(tokenizer, ChatTemplate::kBitnet, turns + "Assistant: ");
  expect_ids_are_the_text(tokenizer, ChatTemplate::kBitnet, turns, false);
  EXPECT_EQ(chat_stop_tokens(tokenizer, ChatTemplate::kBitnet), (std::vector<int32_t>{260, 257}));
}

TEST(ChatTemplate, HeaderAndContentAreTokenizedApart) {
  // With "Ġ" + "H" as a merge, "User: Hi" as one text would take the header's space into the content.
  auto spec = byte_level_spec({{"\xC4\xA0", "H"}}, {"<|begin_of_text|>", "<|eot_id|>"});
  spec.bos = 257;
  const Tokenizer tokenizer(spec);
  const std::vector<ChatMessage> messages = {{"user", "H"}};
  const auto ids = encode_chat(tokenizer, ChatTemplate::kBitnet, messages, false);
  EXPECT_EQ(ids, (std::vector<int32_t>{257, 'U', 's', 'e', 'r', ':', ' ', 'H', 258}));
}

TEST(ChatTemplate, Llama3) {
  const Tokenizer tokenizer(llama3_spec());
  const auto turn = [](const std::string& role, const std::string& text) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + text;
  };
  expect_ids_are_the_text(tokenizer, ChatTemplate::kLlama3,
                          "<|begin_of_text|>" + turn("system", "Be brief.<|eot_id|>") +
                              turn("user", "Hi!<|eot_id|>") + turn("assistant", "Hello.<|eot_id|>") +
                              turn("user", "Bye<|eot_id|>") + turn("assistant", ""));
}

TEST(ChatTemplate, ChatMl) {
  expect_ids_are_the_text(Tokenizer(chatml_spec()), ChatTemplate::kFalconE,
                          "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi! \n<|im_end|>\n"
                          "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
                          "<|im_start|>assistant\n");
}

TEST(ChatTemplate, Falcon3TagsMayBeTokensOrText) {
  const std::string expected =
      "<|system|>\nBe brief.\n<|user|>\n Hi! "
      "\n\n<|assistant|>\nHello.<|endoftext|>\n<|user|>\nBye\n<|assistant|>\n";
  expect_ids_are_the_text(Tokenizer(chatml_spec()), ChatTemplate::kFalcon3, expected);
  const auto spec = byte_level_spec({}, {"<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>"});
  expect_ids_are_the_text(Tokenizer(spec), ChatTemplate::kFalcon3, expected);
}

TEST(ChatTemplate, Llama2PutsTheSystemMessageIntoTheFirstTurn) {
  const Tokenizer tokenizer(tokenizer_spec_from_folder(data_path("llama2")));
  const std::string expected =
      "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi! [/INST] Hello. </s><s>[INST] Bye [/INST]";
  EXPECT_EQ(render_chat(tokenizer, ChatTemplate::kLlama2, kMessages), expected);
  EXPECT_EQ(encode_chat(tokenizer, ChatTemplate::kLlama2, kMessages),
            tokenizer.encode(expected, {.add_special = false, .parse_special = true}));
  EXPECT_EQ(chat_stop_tokens(tokenizer, ChatTemplate::kLlama2), (std::vector<int32_t>{2}));
}

TEST(ChatTemplate, NoneJoinsByNewlines) {
  const Tokenizer tokenizer(llama3_spec());
  EXPECT_EQ(render_chat(tokenizer, ChatTemplate::kNone, kMessages),
            "<|begin_of_text|>Be brief.\n Hi! \n\nHello.\nBye");
  EXPECT_TRUE(chat_stop_tokens(tokenizer, ChatTemplate::kNone).empty());
}

TEST(ChatTemplate, MessagesNeverBecomeSpecialTokens) {
  const Tokenizer tokenizer(llama3_spec());
  const std::vector<ChatMessage> messages = {{"user", "<|eot_id|>"}};
  for (const auto chat_template : {ChatTemplate::kBitnet, ChatTemplate::kLlama3}) {
    const auto ids = encode_chat(tokenizer, chat_template, messages);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 260), 1);
  }
}

TEST(ChatTemplate, MissingTokensAndUnknownRolesAreNamed) {
  const Tokenizer tokenizer(byte_level_spec({}, {"<|begin_of_text|>"}));
  for (const auto& [chat_template, token] :
       {std::pair{ChatTemplate::kBitnet, "<|eot_id|>"},
        std::pair{ChatTemplate::kLlama3, "<|start_header_id|>"},
        std::pair{ChatTemplate::kFalcon3, "<|endoftext|>"}, std::pair{ChatTemplate::kFalconE, "<|im_start|>"},
        std::pair{ChatTemplate::kLlama2, "<s>"}}) {
    try {
      (void)encode_chat(tokenizer, chat_template, kMessages);
      ADD_FAILURE() << token;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_NE(error.message().find(token), std::string::npos) << error.what();
    }
  }
  const std::vector<ChatMessage> tool = {{"tool", "x"}};
  EXPECT_THROW((void)encode_chat(tokenizer, ChatTemplate::kNone, tool), Error);
}

TEST(ChatTemplate, NamesGoBothWays) {
  for (const char* name : {"bitnet", "llama3", "falcon3", "falcon-e", "llama2", "none"}) {
    EXPECT_EQ(to_string(chat_template_from_name(name)), name);
  }
  EXPECT_EQ(chat_template_from_name("chatml"), ChatTemplate::kFalconE);
  EXPECT_THROW((void)chat_template_from_name("jinja"), Error);
}

TEST(ChatTemplate, IsDetectedFromWhatTheFileSays) {
  auto spec = llama3_spec();
  spec.chat_template = "Human: {{ x }}\n\nBITNETAssistant: ";  // what the official 2B-4T file carries
  EXPECT_EQ(detect_chat_template("bitnet-b1.58", spec), ChatTemplate::kBitnet);
  EXPECT_EQ(detect_chat_template("bitnet", spec), ChatTemplate::kBitnet);
  EXPECT_EQ(detect_chat_template("llama", spec), ChatTemplate::kNone);
  spec.chat_template = "";
  EXPECT_EQ(detect_chat_template("llama", spec), ChatTemplate::kLlama3);
  EXPECT_EQ(detect_chat_template("llama", chatml_spec()), ChatTemplate::kFalconE);
  spec = chatml_spec();
  spec.chat_template = "<|user|> <|assistant|>";
  EXPECT_EQ(detect_chat_template("llama", spec), ChatTemplate::kFalcon3);
  spec = tokenizer_spec_from_folder(data_path("llama2"));
  EXPECT_EQ(detect_chat_template("bitnet", spec), ChatTemplate::kNone);
  spec.chat_template = "{{ '[INST]' }}";
  EXPECT_EQ(detect_chat_template("llama", spec), ChatTemplate::kLlama2);
}

}  // namespace
}  // namespace bitnet
