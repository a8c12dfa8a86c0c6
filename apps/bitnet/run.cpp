#include "commands.h"
#include "errors.h"
#include "generation_options.h"
#include "interrupt.h"
#include "prompt.h"
#include "terminal.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kRunFooter = R"(Examples:
  bitnet run -p "Once upon a time there was"
  bitnet run -m model.gguf -f prompt.txt -n 200 --temp 0.7 --seed 1
  echo "The captain looked" | bitnet run --greedy --stop "." --json
  bitnet run -m model.gguf --chat -p "Why is the sky blue?"
  bitnet run --ids 0,51,1454 -n 8 --greedy

One final newline of a file or of standard input is not part of the prompt.)";

struct RunOptions {
  PromptOptions prompt;
  GenerationOptions generation;
  TemplateOptions chat_template;
  bool chat = false;
  std::string prompt_cache;
};

/// Prints tokens as they come: text, or ids where the model has no tokenizer.
class TokenPrinter {
 public:
  explicit TokenPrinter(bool ids) : ids_(ids) {}

  bool operator()(const GenerateEvent& event) {
    if (ids_) {
      write_out(fmt::format("{}{}", first_ ? "" : " ", event.token));
    } else {
      write_generated(event.text);
    }
    first_ = false;
    return true;
  }

 private:
  bool ids_;
  bool first_ = true;
};

std::vector<int32_t> chat_prompt(const RunOptions& options, const Model& model, const std::string& text,
                                 GenerateOptions& generate_options) {
  const ChatTemplate chat_template = choose_template(options.chat_template, model);
  std::vector<ChatMessage> messages;
  if (!options.chat_template.system.empty()) messages.push_back({"system", options.chat_template.system});
  messages.push_back({"user", text});
  generate_options.stop_tokens = chat_stop_tokens(model.require_tokenizer(), chat_template);
  return encode_chat(model.require_tokenizer(), chat_template, messages);
}

/// --prompt-cache: the file's tokens that the prompt begins with are not computed again.
class PromptCache {
 public:
  PromptCache(std::string path, Session& session) : path_(std::move(path)), session_(session) {}

  /// Loads the file, if there is one, and returns how many tokens of the prompt the session holds then. The
  /// last one is always computed, because its logits are not in the file.
  size_t restore(const std::vector<int32_t>& prompt) {
    if (path_.empty() || prompt.empty() || !std::filesystem::exists(path_)) return 0;
    const std::vector<int32_t> saved = session_.load(path_);
    const auto [mine, theirs] = std::mismatch(prompt.begin(), prompt.end(), saved.begin(), saved.end());
    complete_ = mine == prompt.end();
    const size_t common = std::min(static_cast<size_t>(mine - prompt.begin()), prompt.size() - 1);
    session_.truncate(static_cast<int64_t>(common));
    return common;
  }
  /// Saves the prompt, unless the file holds it already or a context shift has moved it.
  void save(const std::vector<int32_t>& prompt, const GenerateResult& result) {
    const auto whole = static_cast<int64_t>(prompt.size() + result.ids.size());
    if (path_.empty() || complete_ || whole > session_.context()) return;
    session_.save(path_, prompt);
  }

 private:
  std::string path_;
  Session& session_;
  bool complete_ = false;
};

Json to_json(const std::vector<int32_t>& prompt, const GenerateResult& result, const Session& session,
             uint64_t seed) {
  Json json = {{"prompt_ids", prompt}, {"ids", result.ids}, {"text", result.text}};
  add_speed(json, result);
  json["threads"] = session.threads();
  json["isa"] = session.isa();
  json["model"] = session.model().path().string();
  json["seed"] = seed;
  return json;
}

int run(const RunOptions& options, const CommonOptions& common) {
  GenerateOptions generate_options = resolve(options.generation);
  const bool chat =
      options.chat || !options.chat_template.name.empty() || !options.chat_template.system.empty();
  const Input input = read_prompt(options.prompt);
  if (chat && input.ids) {
    throw Error(ErrorCode::kInvalidArgument,
                "a chat template needs a text, and --ids are taken as they stand",
                "leave out --ids, or --chat, --template and --system");
  }
  const InterruptScope interrupt_scope;
  const auto model = load_model(common);
  const std::vector<int32_t> prompt = chat ? chat_prompt(options, *model, input.text, generate_options)
                                           : encode_prompt(input, options.prompt, *model);
  Session session = open_session(model, common, options.generation.cache);
  TokenPrinter printer(model->tokenizer() == nullptr);
  PromptCache cache(options.prompt_cache, session);
  const size_t reused = cache.restore(prompt);
  generate_options.earlier_tokens.assign(prompt.begin(),
                                         prompt.begin() + static_cast<std::ptrdiff_t>(reused));
  const auto rest = std::span(prompt).subspan(reused);
  const GenerateResult result =
      common.json ? generate(session, rest, generate_options, {}, &interrupted())
                  : generate(session, rest, generate_options, std::ref(printer), &interrupted());
  cache.save(prompt, result);
  if (common.json) {
    Json json = to_json(prompt, result, session, generate_options.sampler.seed);
    if (!options.prompt_cache.empty()) json["reused_tokens"] = reused;
    print_json(json);
  } else {
    write_out("\n");
    const std::string from_cache = reused == 0 ? "" : fmt::format("{} prompt tokens reused, ", reused);
    write_err(fmt::format("{}{}, {} threads, {}, stopped by {}\n", from_cache, describe_speed(result),
                          session.threads(), session.isa(), to_string(result.stop_reason)));
  }
  return result.stop_reason == StopReason::kCancelled ? kExitInterrupted : kExitOk;
}

}  // namespace

void add_run_command(Command app, Program& program) {
  auto options = std::make_shared<RunOptions>();
  const Command command = add_command(app, program, "run", "Continue a text", options, &run);
  command.footer(kRunFooter);
  add_model_option(command, program.common);
  add_threads_option(command, program.common);
  add_isa_option(command, program.common);
  add_weight_options(command, program.common);
  add_device_option(command, program.common);
  add_prompt_options(command, options->prompt);
  command.add_flag("--chat", options->chat, "Put the text into the chat template as the user's message");
  command
      .add_option("--prompt-cache", options->prompt_cache,
                  "Keep what the prompt leaves in the KV cache in FILE, and start from it next time")
      .type_name("FILE");
  add_template_options(command, options->chat_template);
  add_generation_options(command, options->generation);
  add_speculation_option(command, options->generation);
}

}  // namespace bitnet::cli
