#pragma once

#include "bitnet/tokenizer/tokenizer.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

struct ChatMessage {
  std::string role;  ///< "system", "user", "assistant"
  std::string content;
};

/// The prompt formats of the supported models, written as code: each piece is tokenized by itself, as in
/// training.
enum class ChatTemplate {
  kBitnet,   ///< BitNet b1.58 2B-4T: BOS, then "User: {content}<|eot_id|>"..., then "Assistant: "
  kLlama3,   ///< <|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|>
  kFalcon3,  ///< <|user|>\n{content}\n<|assistant|>\n
  kFalconE,  ///< <|im_start|>user\n{content}<|im_end|>\n  (ChatML)
  kLlama2,   ///< <s>[INST] ... [/INST]
  kNone,     ///< contents joined by newlines: for base models
};

[[nodiscard]] std::string_view to_string(ChatTemplate chat_template);
/// By name ("bitnet", "llama3", "falcon3", "falcon-e" or "chatml", "llama2", "none"); throws kInvalidArgument
/// with the list.
[[nodiscard]] ChatTemplate chat_template_from_name(std::string_view name);
/// From what the file says: architecture ("bitnet-b1.58", "llama", ...), the Jinja text and the special
/// tokens of the vocabulary. The 2B-4T model gets kBitnet whatever template the file carries (FACTS: the
/// shipped one is wrong).
[[nodiscard]] ChatTemplate detect_chat_template(std::string_view architecture, const TokenizerSpec& spec);

/// Token ids of the conversation. With add_generation_prompt the assistant's header is appended.
/// Special tokens come only from the template: text of messages is never parsed for them.
[[nodiscard]] std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                               std::span<const ChatMessage> messages,
                                               bool add_generation_prompt = true);
/// The same as text, for display and tests.
[[nodiscard]] std::string render_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                      std::span<const ChatMessage> messages,
                                      bool add_generation_prompt = true);
/// Tokens that end the assistant's turn, over and above spec().stop_tokens.
[[nodiscard]] std::vector<int32_t> chat_stop_tokens(const Tokenizer& tokenizer, ChatTemplate chat_template);

}  // namespace bitnet
