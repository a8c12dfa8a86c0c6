#pragma once

#include "bitnet/inference/generate.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace bitnet::cli {

/// A chat: the messages, and a session whose KV cache is kept for as much of them as did not change.
class Conversation {
 public:
  /// Throws (kUnsupported, ...) if the vocabulary cannot spell the template.
  Conversation(Session session, ChatTemplate chat_template, std::string system, GenerateOptions options);

  /// Adds the user's message and the model's answer, whole or as far as it came before `cancel`. If it
  /// throws, the message is not added. Throws kOutOfRange with what to do if the conversation does not fit
  /// the context; with context_shift the oldest turns are left out of the prompt instead (they stay in
  /// messages()).
  GenerateResult answer(const std::string& text, const std::function<bool(const GenerateEvent&)>& on_token,
                        const std::atomic<bool>* cancel);

  /// Forgets all but the system prompt.
  void clear();
  /// Takes the last question and its answer back; false if there is none.
  bool undo();
  /// {"messages": [{"role", "content"}, ...]}
  void save(const std::filesystem::path& path) const;
  /// Replaces the messages, the system prompt included. Throws kCorruptData and leaves everything as it was.
  void load(const std::string& path);

  [[nodiscard]] const std::vector<ChatMessage>& messages() const { return messages_; }
  [[nodiscard]] const Session& session() const { return session_; }
  [[nodiscard]] ChatTemplate chat_template() const { return chat_template_; }
  /// Messages that no longer fit and are left out of the prompt.
  [[nodiscard]] size_t forgotten() const { return forgotten_; }
  /// Prompt tokens of the last answer that were still in the cache.
  [[nodiscard]] int64_t reused_tokens() const { return reused_; }

 private:
  [[nodiscard]] std::vector<int32_t> encode() const;
  [[nodiscard]] std::vector<int32_t> fitted_prompt();
  [[nodiscard]] size_t system_messages() const;
  void remember(std::vector<int32_t> prompt, const GenerateResult& result);

  Session session_;
  ChatTemplate chat_template_;
  GenerateOptions options_;
  std::vector<ChatMessage> messages_;
  size_t forgotten_ = 0;
  std::vector<int32_t> cached_;  ///< the tokens in session_'s cache
  int64_t reused_ = 0;
};

}  // namespace bitnet::cli
