#include "commands.h"
#include "conversation.h"
#include "errors.h"
#include "generation_options.h"
#include "interrupt.h"
#include "line_reader.h"
#include "terminal.h"
#include "text.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

namespace bitnet::cli {
namespace {

constexpr const char* kChatFooter = R"(Examples:
  bitnet chat -m model.gguf
  bitnet chat -m model.gguf --system "Answer in one sentence." --temp 0.6
  bitnet chat --template none            (a base model: it goes on writing)
  printf 'Hello\n/save talk.json\n' | bitnet chat -m model.gguf

Each line is a message. /help lists the commands. Ctrl-C stops an answer; twice at the prompt, it leaves.
From a pipe the exit code is 1 if any line failed. With --json each answer is one JSON object on a line.)";

constexpr const char* kHelp = R"(/help         this text
/clear        forget the conversation, keep the system prompt
/undo         take the last question and its answer back
/history      show the conversation
/save FILE    write the conversation to a file
/load FILE    read a conversation back
/stats        speed, context and cache
/exit         leave (so does the end of the input)
Ctrl-C stops an answer.
)";

struct ChatOptions {
  GenerationOptions generation;
  TemplateOptions chat_template;
};

/// The loop around a Conversation: what the user types, and what is printed.
class Chat {
 public:
  Chat(Conversation conversation, const CommonOptions& common)
      : conversation_(std::move(conversation)), json_(common.json), interactive_(stdin_is_terminal()) {}

  int loop();

 private:
  enum class After { kGoOn, kLeave };

  /// A message or a command. Errors are printed and the chat goes on.
  After handle(const std::string& line);
  After command(std::string_view line);
  void answer(const std::string& line);
  void print_history() const;
  void print_stats() const;
  /// An interrupt at the prompt; nothing if the chat goes on.
  std::optional<int> on_interrupt_at_prompt();

  Conversation conversation_;
  bool json_;
  bool interactive_;
  bool failed_ = false;
  bool warned_ = false;  ///< the last thing typed at the prompt was Ctrl-C
  std::optional<GenerateResult> last_;
};

int Chat::loop() {
  LineReader reader(STDIN_FILENO);
  std::string line;
  while (true) {
    if (interactive_) write_err("> ");
    const LineReader::Status status = reader.next(line);
    if (status == LineReader::Status::kInterrupted) {
      if (const auto code = on_interrupt_at_prompt()) return *code;
      continue;
    }
    if (status == LineReader::Status::kEnd) break;
    warned_ = false;
    if (handle(line) == After::kLeave) break;
  }
  // A person saw the errors; a script only sees the exit code.
  return failed_ && !interactive_ ? kExitFailure : kExitOk;
}

std::optional<int> Chat::on_interrupt_at_prompt() {
  clear_interrupt();
  if (warned_ || !interactive_) {
    write_err("\n");
    return kExitInterrupted;
  }
  warned_ = true;
  write_err("\n(Ctrl-C again or /exit to leave)\n");
  return std::nullopt;
}

Chat::After Chat::handle(const std::string& line) {
  if (line.find_first_not_of(" \t") == std::string::npos) return After::kGoOn;
  try {
    if (line.front() == '/') return command(line);
    if (const auto at = find_invalid_utf8(line)) {
      throw Error(ErrorCode::kCorruptData, fmt::format("the message is not UTF-8 (byte {})", *at));
    }
    answer(line);
  } catch (const Error& error) {
    // Without memory or an output there is nothing to go on with.
    if (error.code() == ErrorCode::kOutOfMemory || error.code() == ErrorCode::kInternal) throw;
    failed_ = true;
    print_error(error.what(), error.hint());
  }
  return After::kGoOn;
}

void Chat::answer(const std::string& line) {
  const auto stream = [](const GenerateEvent& event) {
    write_generated(event.text);
    return true;
  };
  std::function<bool(const GenerateEvent&)> on_token;
  if (!json_) on_token = stream;
  last_ = conversation_.answer(line, on_token, &interrupted());
  clear_interrupt();
  if (json_) {
    Json json = {{"role", "assistant"}, {"content", last_->text}};
    add_speed(json, *last_);
    json["prompt_tokens"] = conversation_.reused_tokens() + last_->prompt_tokens;
    json["reused_tokens"] = conversation_.reused_tokens();
    json["tokens"] = last_->ids.size();
    print_json(json);
  } else {
    write_out("\n");
  }
  if (last_->stop_reason == StopReason::kCancelled) write_err("(stopped)\n");
  if (last_->stop_reason == StopReason::kContext) {
    print_warning(
        "the context is full and the answer was cut; /clear begins anew, /undo takes the last turn back");
  }
}

Chat::After Chat::command(std::string_view line) {
  const size_t space = std::min(line.find(' '), line.size());
  const std::string_view name = line.substr(0, space);
  std::string argument(line.substr(std::min(line.find_first_not_of(' ', space), line.size())));
  argument.erase(argument.find_last_not_of(' ') + 1);
  if ((name == "/save" || name == "/load") && argument.empty()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} needs a file name", name));
  }
  if (name == "/exit" || name == "/quit") return After::kLeave;
  if (name == "/help") {
    write_err(kHelp);
  } else if (name == "/clear") {
    conversation_.clear();
  } else if (name == "/undo") {
    if (!conversation_.undo()) throw Error(ErrorCode::kInvalidArgument, "there is nothing to take back");
  } else if (name == "/history") {
    print_history();
  } else if (name == "/save") {
    conversation_.save(argument);
    write_err(
        fmt::format("saved {} messages to {}\n", conversation_.messages().size(), escape_controls(argument)));
  } else if (name == "/load") {
    conversation_.load(argument);
    write_err(fmt::format("loaded {} messages\n", conversation_.messages().size()));
  } else if (name == "/stats") {
    print_stats();
  } else {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("there is no command {}", name), "/help lists them");
  }
  return After::kGoOn;
}

void Chat::print_history() const {
  if (json_) {
    Json list = Json::array();
    for (const auto& message : conversation_.messages()) {
      list.push_back({{"role", message.role}, {"content", message.content}});
    }
    return print_json({{"messages", list}});
  }
  for (const ChatMessage& message : conversation_.messages()) {
    write_out(fmt::format("{}: {}\n", message.role, escape_controls(message.content, KeepLayout::kYes)));
  }
}

void Chat::print_stats() const {
  const Session& session = conversation_.session();
  if (json_) {
    Json json = {{"messages", conversation_.messages().size()},
                 {"forgotten_messages", conversation_.forgotten()},
                 {"cached_tokens", session.position()},
                 {"context", session.context()},
                 {"kv_bytes", session.kv_bytes()},
                 {"template", to_string(conversation_.chat_template())},
                 {"threads", session.threads()},
                 {"isa", session.isa()}};
    if (last_) add_speed(json, *last_);
    return print_json(json);
  }
  write_out(fmt::format("messages  {} ({} forgotten)\ncontext   {} of {} tokens, {} for the KV cache\n",
                        conversation_.messages().size(), conversation_.forgotten(), session.position(),
                        session.context(), format_bytes(session.kv_bytes())));
  write_out(fmt::format("template  {}\nkernels   {}, {} threads\n", to_string(conversation_.chat_template()),
                        session.isa(), session.threads()));
  if (last_) {
    write_out(fmt::format("last      {}, {} prompt tokens reused\n", describe_speed(*last_),
                          conversation_.reused_tokens()));
  }
}

int chat(const ChatOptions& options, const CommonOptions& common) {
  GenerateOptions generate_options = resolve(options.generation);
  const InterruptScope interrupt_scope;
  const auto model = load_model(common);
  const ChatTemplate chat_template = choose_template(options.chat_template, *model);
  static_cast<void>(model->require_tokenizer());
  Session session = open_session(model, common, options.generation.cache);
  Chat loop(Conversation(std::move(session), chat_template, options.chat_template.system, generate_options),
            common);
  if (stdin_is_terminal()) {
    write_err(fmt::format("{} with the template '{}'. /help lists the commands.\n",
                          escape_controls(model->path().filename().string()), to_string(chat_template)));
  }
  return loop.loop();
}

}  // namespace

void add_chat_command(Command app, Program& program) {
  auto options = std::make_shared<ChatOptions>();
  options->generation.generate.max_tokens = 1024;  // a base model never ends by itself
  const Command command = add_command(app, program, "chat", "Talk with a model", options, &chat);
  command.footer(kChatFooter);
  add_model_option(command, program.common);
  add_threads_option(command, program.common);
  add_isa_option(command, program.common);
  add_weight_options(command, program.common);
  add_device_option(command, program.common);
  add_template_options(command, options->chat_template);
  add_generation_options(command, options->generation);
  add_speculation_option(command, options->generation);
}

}  // namespace bitnet::cli
