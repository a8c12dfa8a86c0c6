#include "conversation.h"

#include "bitnet/core/atomic_file.h"
#include "bitnet/core/error.h"
#include "terminal.h"
#include "text.h"

#include <algorithm>
#include <atomic>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace bitnet::cli {
namespace {

std::vector<ChatMessage> messages_from_json(const std::string& text, const std::string& path) {
  const auto fail = [&path](std::string_view what) {
    return Error(ErrorCode::kCorruptData, fmt::format("{} is not a saved chat: {}", path, what),
                 R"(a saved chat is {"messages": [{"role": "user", "content": "..."}, ...]})");
  };
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("messages") || !json["messages"].is_array()) {
    throw fail("no list \"messages\"");
  }
  std::vector<ChatMessage> messages;
  for (const auto& entry : json["messages"]) {
    const auto has_text = [&entry](const char* key) {
      return entry.is_object() && entry.contains(key) && entry[key].is_string();
    };
    if (!has_text("role") || !has_text("content")) throw fail("a message without \"role\" or \"content\"");
    ChatMessage message{entry["role"], entry["content"]};
    // [system] (user assistant)*: what answer() builds and undo() takes apart.
    const bool system = messages.empty() && message.role == "system";
    const bool follows_answer = messages.empty() || messages.back().role != "user";
    if (!system && message.role != (follows_answer ? "user" : "assistant")) {
      throw fail(fmt::format("message {} has the role {}", messages.size() + 1, in_quotes(message.role)));
    }
    messages.push_back(std::move(message));
  }
  if (!messages.empty() && messages.back().role == "user") throw fail("the last question has no answer");
  return messages;
}

}  // namespace

Conversation::Conversation(Session session, ChatTemplate chat_template, std::string system,
                           GenerateOptions options)
    : session_(std::move(session)), chat_template_(chat_template), options_(std::move(options)) {
  const Tokenizer& tokenizer = session_.model().require_tokenizer();
  for (const int32_t token : chat_stop_tokens(tokenizer, chat_template))
    options_.stop_tokens.push_back(token);
  if (!system.empty()) messages_.push_back({"system", std::move(system)});
  std::vector<ChatMessage> probe = messages_;
  probe.push_back({"user", "?"});
  static_cast<void>(encode_chat(session_.model().require_tokenizer(), chat_template_, probe));
}

size_t Conversation::system_messages() const {
  return !messages_.empty() && messages_.front().role == "system" ? 1 : 0;
}

std::vector<int32_t> Conversation::encode() const {
  const auto first = messages_.begin() + static_cast<std::ptrdiff_t>(system_messages());
  std::vector<ChatMessage> shown(messages_.begin(), first);
  shown.insert(shown.end(), first + static_cast<std::ptrdiff_t>(forgotten_), messages_.end());
  return encode_chat(session_.model().require_tokenizer(), chat_template_, shown);
}

std::vector<int32_t> Conversation::fitted_prompt() {
  std::vector<int32_t> ids = encode();
  const auto length = [&ids] { return static_cast<int64_t>(ids.size()); };
  if (length() < session_.context()) return ids;
  // Three quarters: room for an answer, and the cache of the rest then serves several turns.
  while (options_.context_shift && length() > session_.context() / 4 * 3 &&
         forgotten_ + 2 < messages_.size() - system_messages()) {
    forgotten_ += 2;
    ids = encode();
  }
  if (length() < session_.context()) return ids;
  throw Error(
      ErrorCode::kOutOfRange,
      fmt::format("the conversation takes {} tokens and the context holds {}", length(), session_.context()),
      "/clear begins anew, /undo takes the last turn back; --context-shift forgets the oldest turns by "
      "itself");
}

GenerateResult Conversation::answer(const std::string& text,
                                    const std::function<bool(const GenerateEvent&)>& on_token,
                                    const std::atomic<bool>* cancel) {
  const size_t forgotten_before = forgotten_;
  messages_.push_back({"user", text});
  try {
    std::vector<int32_t> prompt = fitted_prompt();
    const auto differ = std::mismatch(cached_.begin(), cached_.end(), prompt.begin(), prompt.end()).first;
    // At least one token is left to append: its logits are where the answer begins.
    reused_ = std::min<int64_t>(differ - cached_.begin(), static_cast<int64_t>(prompt.size()) - 1);
    session_.truncate(reused_);
    const auto rest = std::span<const int32_t>(prompt).subspan(static_cast<size_t>(reused_));
    GenerateOptions options = options_;
    options.earlier_tokens.assign(prompt.begin(), prompt.begin() + reused_);
    GenerateResult result = generate(session_, rest, options, on_token, cancel);
    messages_.push_back({"assistant", result.text});
    remember(std::move(prompt), result);
    return result;
  } catch (...) {
    messages_.pop_back();
    forgotten_ = forgotten_before;
    session_.truncate(0);
    cached_.clear();
    throw;
  }
}

void Conversation::remember(std::vector<int32_t> prompt, const GenerateResult& result) {
  cached_ = std::move(prompt);
  cached_.insert(cached_.end(), result.ids.begin(), result.ids.end());
  const auto known = static_cast<int64_t>(cached_.size());
  if (known >= session_.context()) {
    // A context shift may have moved tokens: their positions are no longer those of the prompt.
    session_.truncate(0);
  } else if (session_.position() > known) {
    session_.truncate(known);
  }
  cached_.resize(static_cast<size_t>(std::min(known, session_.position())));
}

void Conversation::clear() {
  messages_.resize(system_messages());
  forgotten_ = 0;
}

bool Conversation::undo() {
  if (messages_.size() < system_messages() + 2) return false;
  messages_.resize(messages_.size() - 2);
  forgotten_ = std::min(forgotten_, messages_.size() - system_messages());
  return true;
}

void Conversation::save(const std::filesystem::path& path) const {
  Json list = Json::array();
  for (const ChatMessage& message : messages_)
    list.push_back({{"role", message.role}, {"content", message.content}});
  AtomicFile file(path);
  file.write(Json{{"messages", list}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  file.commit();
}

void Conversation::load(const std::string& path) {
  messages_ = messages_from_json(read_input(path), path);
  forgotten_ = 0;
}

}  // namespace bitnet::cli
