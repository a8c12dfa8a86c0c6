#include "bitnet/tokenizer/chat_template.h"

#include "bitnet/core/error.h"
#include "tokenizer/unicode.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitnet {

namespace {

constexpr std::pair<ChatTemplate, std::string_view> kNames[] = {
    {ChatTemplate::kBitnet, "bitnet"},   {ChatTemplate::kLlama3, "llama3"},
    {ChatTemplate::kFalcon3, "falcon3"}, {ChatTemplate::kFalconE, "falcon-e"},
    {ChatTemplate::kFalconE, "chatml"},  {ChatTemplate::kLlama2, "llama2"},
    {ChatTemplate::kNone, "none"},
};

constexpr std::string_view kBeginOfText = "<|begin_of_text|>", kEot = "<|eot_id|>";
constexpr std::string_view kStartHeader = "<|start_header_id|>", kEndHeader = "<|end_header_id|>";
constexpr std::string_view kImStart = "<|im_start|>", kImEnd = "<|im_end|>";
constexpr std::string_view kUser = "<|user|>", kAssistant = "<|assistant|>", kEndOfText = "<|endoftext|>";

/// What Python's str.strip() takes away.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::string_view stripped(std::string_view text) {
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const text::Utf8Char c = text::decode_front(text.substr(at));
    if (!c.valid || !is_space(c.code)) {
      begin = std::min(begin, at);
      end = at + c.length;
    }
    at += c.length;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

/// Builds a conversation piece by piece: special tokens by id, and texts, each tokenized by itself.
class Conversation {
 public:
  struct Piece {
    std::string text;
    int32_t id = -1;  // -1: text
  };

  Conversation(const Tokenizer& tokenizer, ChatTemplate chat_template)
      : tokenizer_(tokenizer), chat_template_(chat_template) {}

  void add_text(std::string text) {
    if (!text.empty()) pieces_.push_back({std::move(text)});
  }
  void add_token(std::string_view token) {
    const auto id = tokenizer_.find(token);
    if (!id) fail(token);
    add_id(*id);
  }
  /// A tag that some vocabularies have as one token and others spell out.
  void add_tag(std::string_view tag) {
    const auto id = tokenizer_.find(tag);
    id ? add_id(*id) : add_text(std::string(tag));
  }
  void add_bos(std::string_view usual) {
    const auto& bos = tokenizer_.spec().bos;
    bos ? add_id(*bos) : add_token(usual);
  }
  void add_bos_if_usual() {
    if (tokenizer_.spec().add_bos && tokenizer_.spec().bos) add_id(*tokenizer_.spec().bos);
  }
  void add_eos(std::string_view usual) {
    const auto& eos = tokenizer_.spec().eos;
    eos ? add_id(*eos) : add_token(usual);
  }
  [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }

 private:
  void add_id(int32_t id) { pieces_.push_back({tokenizer_.spec().tokens[id], id}); }
  [[noreturn]] void fail(std::string_view token) const {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format(
            "chat template \"{}\" needs the token {}, which the vocabulary of {} tokens does not have",
            to_string(chat_template_), token, tokenizer_.vocab_size()),
        "choose the template that the model was trained with, or \"none\"");
  }

  const Tokenizer& tokenizer_;
  ChatTemplate chat_template_;
  std::vector<Piece> pieces_;
};

using Messages = std::span<const ChatMessage>;

void build_bitnet(Conversation& out, Messages messages, bool prompt) {
  out.add_bos(kBeginOfText);
  for (const auto& [role, content] : messages) {
    out.add_text(role == "system" ? "System: " : role == "user" ? "User: " : "Assistant: ");
    out.add_text(std::string(stripped(content)));
    out.add_token(kEot);
  }
  if (prompt) out.add_text("Assistant: ");
}

void build_llama3(Conversation& out, Messages messages, bool prompt) {
  const auto add_header = [&](const std::string& role) {
    out.add_token(kStartHeader);
    out.add_text(role);
    out.add_token(kEndHeader);
    out.add_text("\n\n");
  };
  out.add_bos(kBeginOfText);
  for (const auto& [role, content] : messages) {
    add_header(role);
    out.add_text(std::string(stripped(content)));
    out.add_token(kEot);
  }
  if (prompt) add_header("assistant");
}

void build_falcon3(Conversation& out, Messages messages, bool prompt) {
  out.add_bos_if_usual();
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    out.add_tag("<|" + role + "|>");
    out.add_text("\n");
    if (role != "assistant") {
      out.add_text(content + "\n");
      continue;
    }
    out.add_text(content);
    out.add_token(kEndOfText);
    if (i + 1 < messages.size()) out.add_text("\n");
  }
  if (!prompt) return;
  out.add_tag(kAssistant);
  out.add_text("\n");
}

void build_chatml(Conversation& out, Messages messages, bool prompt) {
  out.add_bos_if_usual();
  for (const auto& [role, content] : messages) {
    out.add_token(kImStart);
    out.add_text(role + "\n");
    out.add_text(content);
    out.add_token(kImEnd);
    out.add_text("\n");
  }
  if (!prompt) return;
  out.add_token(kImStart);
  out.add_text("assistant\n");
}

// Everything between BOS and EOS is one text, as SentencePiece puts a space before each text. The system
// message goes into the first user message.
void build_llama2(Conversation& out, Messages messages) {
  std::string system, turn;
  for (const auto& [role, content] : messages) {
    const std::string text(stripped(content));
    if (role == "system") {
      system += fmt::format("<<SYS>>\n{}\n<</SYS>>\n\n", text);
    } else if (role == "user") {
      out.add_text(std::exchange(turn, ""));
      out.add_bos("<s>");
      turn = fmt::format("[INST] {}{} [/INST]", std::exchange(system, ""), text);
    } else {
      out.add_text(std::exchange(turn, "") + " " + text + " ");
      out.add_eos("</s>");
    }
  }
  out.add_text(turn);
}

void build_none(Conversation& out, Messages messages) {
  out.add_bos_if_usual();
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) text += (i > 0 ? "\n" : "") + messages[i].content;
  out.add_text(text);
}

Conversation build(const Tokenizer& tokenizer, ChatTemplate chat_template, Messages messages, bool prompt) {
  for (const auto& message : messages) {
    if (message.role == "system" || message.role == "user" || message.role == "assistant") continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("chat: a role must be system, user or assistant, but it is \"{}\"", message.role),
                "send tool results and other roles as user messages");
  }
  Conversation out(tokenizer, chat_template);
  switch (chat_template) {
    case ChatTemplate::kBitnet:
      build_bitnet(out, messages, prompt);
      break;
    case ChatTemplate::kLlama3:
      build_llama3(out, messages, prompt);
      break;
    case ChatTemplate::kFalcon3:
      build_falcon3(out, messages, prompt);
      break;
    case ChatTemplate::kFalconE:
      build_chatml(out, messages, prompt);
      break;
    case ChatTemplate::kLlama2:
      build_llama2(out, messages);
      break;
    case ChatTemplate::kNone:
      build_none(out, messages);
      break;
  }
  return out;
}

}  // namespace

std::string_view to_string(ChatTemplate chat_template) {
  for (const auto& [value, name] : kNames) {
    if (value == chat_template) return name;
  }
  return "unknown";
}

ChatTemplate chat_template_from_name(std::string_view name) {
  std::string known;
  for (const auto& [value, its_name] : kNames) {
    if (its_name == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(its_name);
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("chat template must be one of {}, but it is \"{}\"", known, name));
}

ChatTemplate detect_chat_template(std::string_view architecture, const TokenizerSpec& spec) {
  const auto has = [&](std::string_view token) {
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      if (spec.tokens[id] == token) return spec.types[id] != TokenType::kNormal;
    }
    return false;
  };
  const bool bitnet = architecture.starts_with("bitnet") || architecture == "BitNetForCausalLM";
  if (bitnet && has(kEot)) return ChatTemplate::kBitnet;
  // The text decides where there is one; without any, the tokens that only one template uses.
  const std::string_view jinja = spec.chat_template;
  const auto says = [&](std::string_view text) {
    return jinja.empty() || jinja.find(text) != std::string_view::npos;
  };
  if (says(kStartHeader) && has(kStartHeader) && has(kEndHeader) && has(kEot)) return ChatTemplate::kLlama3;
  if (says(kImStart) && has(kImStart) && has(kImEnd)) return ChatTemplate::kFalconE;
  const bool tags = jinja.empty() ? has(kUser) && has(kAssistant) : says(kUser) && says(kAssistant);
  if (tags && has(kEndOfText)) return ChatTemplate::kFalcon3;
  if (!jinja.empty() && says("[INST]") && spec.bos && spec.eos) return ChatTemplate::kLlama2;
  return ChatTemplate::kNone;
}

std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                 std::span<const ChatMessage> messages, bool add_generation_prompt) {
  std::vector<int32_t> ids;
  const Conversation conversation = build(tokenizer, chat_template, messages, add_generation_prompt);
  for (const auto& [text, id] : conversation.pieces()) {
    if (id >= 0) {
      ids.push_back(id);
      continue;
    }
    const auto piece = tokenizer.encode(text, {.add_special = false, .parse_special = false});
    ids.insert(ids.end(), piece.begin(), piece.end());
  }
  return ids;
}

std::string render_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                        std::span<const ChatMessage> messages, bool add_generation_prompt) {
  std::string rendered;
  const Conversation conversation = build(tokenizer, chat_template, messages, add_generation_prompt);
  for (const auto& piece : conversation.pieces()) rendered += piece.text;
  return rendered;
}

std::vector<int32_t> chat_stop_tokens(const Tokenizer& tokenizer, ChatTemplate chat_template) {
  std::vector<int32_t> stops;
  const auto add = [&](std::string_view token) {
    if (const auto id = tokenizer.find(token)) stops.push_back(*id);
  };
  switch (chat_template) {
    case ChatTemplate::kBitnet:
    case ChatTemplate::kLlama3:
      add(kEot);
      add("<|end_of_text|>");
      break;
    case ChatTemplate::kFalcon3:
      add(kEndOfText);
      break;
    case ChatTemplate::kFalconE:
      add(kImEnd);
      add(kEndOfText);
      break;
    case ChatTemplate::kLlama2:
      if (tokenizer.spec().eos) stops.push_back(*tokenizer.spec().eos);
      break;
    case ChatTemplate::kNone:
      break;
  }
  return stops;
}

}  // namespace bitnet
