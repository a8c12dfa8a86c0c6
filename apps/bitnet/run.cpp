#include "commands.h"
#include "errors.h"
#include "generation_options.h"
#include "interrupt.h"
#include "prompt.h"
#include "terminal.h"

#include <memory>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kFooter = R"(Examples:
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
  const GenerateResult result =
      common.json ? generate(session, prompt, generate_options, {}, &interrupted())
                  : generate(session, prompt, generate_options, std::ref(printer), &interrupted());
  if (common.json) {
    print_json(to_json(prompt, result, session, generate_options.sampler.seed));
  } else {
    write_out("\n");
    write_err(fmt::format("{}, {} threads, {}, stopped by {}\n", describe_speed(result), session.threads(),
                          session.isa(), to_string(result.stop_reason)));
  }
  return result.stop_reason == StopReason::kCancelled ? kExitInterrupted : kExitOk;
}

}  // namespace

void add_run_command(CLI::App& app, Program& program) {
  auto options = std::make_shared<RunOptions>();
  CLI::App& command = add_command(app, program, "run", "Continue a text", options, &run);
  command.footer(kFooter);
  add_model_option(command, program.common);
  add_threads_option(command, program.common);
  add_isa_option(command, program.common);
  add_prompt_options(command, options->prompt);
  command.add_flag("--chat", options->chat, "Put the text into the chat template as the user's message");
  add_template_options(command, options->chat_template);
  add_generation_options(command, options->generation);
}

}  // namespace bitnet::cli
