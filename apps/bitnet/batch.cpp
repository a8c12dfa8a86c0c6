#include "batch_input.h"
#include "batch_output.h"
#include "commands.h"
#include "errors.h"
#include "generation_options.h"
#include "interrupt.h"
#include "progress.h"
#include "prompt.h"
#include "terminal.h"
#include "text.h"

#include <memory>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kFooter = R"(Examples:
  bitnet batch -i prompts.txt -o answers.jsonl -n 64 --greedy
  bitnet batch -m model.gguf --chat -i questions.csv -o answers.csv
  bitnet batch -i prompts.jsonl -o answers.jsonl --resume

Input: .txt (a prompt on each line), .jsonl ({"prompt": ..., "id": ...}), .csv (column "prompt", else the first).
A bad row becomes a row with an error, and the rest goes on; the exit code is then 1.
Every row begins with the same seed and an empty context, so that it does not depend on the rows before it.)";

struct BatchOptions {
  std::string input, output;
  bool resume = false, overwrite = false;
  bool chat = false, no_bos = false;
  GenerationOptions generation;
  TemplateOptions chat_template;
};

/// One model, one session, one row after another.
class BatchRunner {
 public:
  BatchRunner(const BatchOptions& options, const CommonOptions& common)
      : options_(options),
        generate_options_(resolve(options.generation)),
        model_(load_model(common)),
        chat_template_(choose_template(options.chat_template, *model_)),
        session_(open_session(model_, common, options.generation.cache)) {
    chat_ = options.chat || !options.chat_template.name.empty() || !options.chat_template.system.empty();
    const Tokenizer& tokenizer = model_->require_tokenizer();  // else every row would fail
    if (chat_) generate_options_.stop_tokens = chat_stop_tokens(tokenizer, chat_template_);
  }

  /// Throws kCancelled on Ctrl-C; what is wrong with this row alone comes back as its error.
  BatchResult run(const BatchRow& row) {
    BatchResult result;
    result.error = row.error;
    if (!result.error.empty()) return result;
    try {
      return generate_row(row.prompt);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kOutOfRange && error.code() != ErrorCode::kInvalidArgument) throw;
      result.error = error.what();
    }
    return result;
  }

 private:
  std::vector<int32_t> encode(const std::string& prompt) const {
    if (!chat_) {
      const PromptOptions as_is{.input = {}, .no_bos = options_.no_bos, .parse_special = false};
      return encode_prompt({.text = prompt, .ids = std::nullopt}, as_is, *model_);
    }
    std::vector<ChatMessage> messages;
    if (!options_.chat_template.system.empty()) messages.push_back({"system", options_.chat_template.system});
    messages.push_back({"user", prompt});
    return encode_chat(model_->require_tokenizer(), chat_template_, messages);
  }

  BatchResult generate_row(const std::string& prompt) {
    session_.truncate(0);
    const GenerateResult generated =
        generate(session_, encode(prompt), generate_options_, {}, &interrupted());
    throw_if_interrupted();
    return {.text = generated.text,
            .stop_reason = std::string(to_string(generated.stop_reason)),
            .prompt_tokens = generated.prompt_tokens,
            .tokens = static_cast<int64_t>(generated.ids.size()),
            .error = {}};
  }

  const BatchOptions& options_;
  GenerateOptions generate_options_;
  std::shared_ptr<const Model> model_;
  ChatTemplate chat_template_;
  Session session_;
  bool chat_ = false;
};

struct BatchCounts {
  int64_t rows = 0, kept = 0, failed = 0;
  bool interrupted = false;
};

BatchCounts run_rows(BatchInput& input, BatchOutput& output, BatchRunner& runner) {
  BatchCounts counts{.rows = 0, .kept = output.kept_rows(), .failed = output.kept_failures()};
  Progress progress("batch");
  BatchRow row;
  try {
    while (input.next(row)) {
      progress.update(input.bytes_read(), input.bytes_total());
      if (row.number <= output.kept_rows()) continue;
      const BatchResult result = runner.run(row);
      output.append(row, result);
      ++counts.rows;
      if (result.error.empty()) continue;
      ++counts.failed;
      progress.hide();
      print_error(fmt::format("row {} (line {}): {}", row.number, row.line, result.error));
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCancelled) throw;
    counts.interrupted = true;
  }
  return counts;
}

int batch(const BatchOptions& options, const CommonOptions& common) {
  const InterruptScope interrupt_scope;
  auto input = BatchInput::open(options.input);
  using Existing = BatchOutput::Existing;
  BatchRunner runner(options, common);  // before the output: a model that does not load leaves no file behind
  BatchOutput output(options.output, options.resume      ? Existing::kResume
                                     : options.overwrite ? Existing::kOverwrite
                                                         : Existing::kRefuse);
  const BatchCounts counts = run_rows(*input, output, runner);
  if (common.json) {
    print_json({{"rows", counts.rows},
                {"kept", counts.kept},
                {"failed", counts.failed},
                {"interrupted", counts.interrupted},
                {"output", options.output}});
  } else {
    write_err(fmt::format("{} rows written to {}, {} kept from before, {} failed{}\n", counts.rows,
                          escape_controls(options.output), counts.kept, counts.failed,
                          counts.interrupted ? "; interrupted, go on with --resume" : ""));
  }
  if (counts.interrupted) return kExitInterrupted;
  return counts.failed > 0 ? kExitFailure : kExitOk;
}

}  // namespace

void add_batch_command(CLI::App& app, Program& program) {
  auto options = std::make_shared<BatchOptions>();
  CLI::App& command = add_command(app, program, "batch", "Continue every prompt of a file", options, &batch);
  command.footer(kFooter);
  command.add_option("-i,--input", options->input, "Prompts: .txt, .jsonl or .csv")
      ->type_name("FILE")
      ->required();
  command.add_option("-o,--output", options->output, "Results: .jsonl, .csv or .txt")
      ->type_name("FILE")
      ->required();
  CLI::Option* resume =
      command.add_flag("--resume", options->resume, "Keep the rows in the output and go on after them");
  command.add_flag("--overwrite", options->overwrite, "Replace an output that exists")->excludes(resume);
  add_model_option(command, program.common);
  add_threads_option(command, program.common);
  add_isa_option(command, program.common);
  command.add_flag("--chat", options->chat, "Put each prompt into the chat template as the user's message");
  add_template_options(command, options->chat_template);
  command.add_flag("--no-bos", options->no_bos, "Do not put the model's BOS token first");
  add_generation_options(command, options->generation);
}

}  // namespace bitnet::cli
