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

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kBatchFooter = R"(Examples:
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
  int64_t parallel = 8;
  GenerationOptions generation;
  TemplateOptions chat_template;
};

struct BatchCounts {
  int64_t rows = 0, kept = 0, failed = 0;
  bool interrupted = false;
};

/// Rows that were read and not yet written: they are done in any order and written in theirs.
class RowQueue {
 public:
  explicit RowQueue(BatchOutput& output) : output_(output), progress_("batch") {
    counts_.kept = output.kept_rows();
    counts_.failed = output.kept_failures();
  }

  struct Entry {
    BatchRow row;
    BatchResult result;
    bool done = false;
  };
  Entry& push(BatchRow row) { return entries_.emplace_back(Entry{std::move(row), {}}); }
  /// The place of the newest entry among all that were ever pushed.
  [[nodiscard]] size_t newest() const { return written_ + entries_.size() - 1; }

  void finish(size_t place, BatchResult result) {
    Entry& entry = entries_[place - written_];
    entry.result = std::move(result);
    entry.done = true;
    for (; !entries_.empty() && entries_.front().done; entries_.pop_front(), ++written_)
      write(entries_.front());
  }

  [[nodiscard]] const BatchCounts& counts() const { return counts_; }
  void update(const BatchInput& input) { progress_.update(input.bytes_read(), input.bytes_total()); }

 private:
  void write(const Entry& entry) {
    output_.append(entry.row, entry.result);
    ++counts_.rows;
    if (entry.result.error.empty()) return;
    ++counts_.failed;
    progress_.hide();
    print_error(fmt::format("row {} (line {}): {}", entry.row.number, entry.row.line, entry.result.error));
  }

  BatchOutput& output_;
  Progress progress_;
  BatchCounts counts_;
  std::deque<Entry> entries_;
  size_t written_ = 0;
};

/// Generates for several rows at once and writes their results in the order of the rows.
class BatchRunner {
 public:
  BatchRunner(const BatchOptions& options, const CommonOptions& common)
      : options_(options),
        generate_options_(resolve(options.generation)),
        model_(load_model(common)),
        chat_template_(choose_template(options.chat_template, *model_)),
        engine_(open_engine(model_, common, options.generation.cache)),
        context_(engine_.sequence().context()) {
    chat_ = options.chat || !options.chat_template.name.empty() || !options.chat_template.system.empty();
    const Tokenizer& tokenizer = model_->require_tokenizer();  // else every row would fail
    if (chat_) generate_options_.stop_tokens = chat_stop_tokens(tokenizer, chat_template_);
  }

  BatchCounts run(BatchInput& input, BatchOutput& output) {
    RowQueue queue(output);
    std::vector<size_t> places;  // of the prompts' rows in the queue
    const auto next = [&]() -> std::optional<std::vector<int32_t>> {
      BatchRow row;
      while (input.next(row)) {
        queue.update(input);
        if (row.number <= output.kept_rows()) continue;
        BatchResult failure;
        auto prompt = encode_row(queue.push(std::move(row)).row, failure.error);
        if (prompt) {
          places.push_back(queue.newest());
          return prompt;
        }
        queue.finish(queue.newest(), failure);
      }
      return std::nullopt;
    };
    const auto finished = [&](int64_t prompt, const GenerateResult& generated) {
      queue.finish(places[static_cast<size_t>(prompt)],
                   {.text = generated.text,
                    .stop_reason = std::string(to_string(generated.stop_reason)),
                    .prompt_tokens = generated.prompt_tokens,
                    .tokens = std::ssize(generated.ids),
                    .error = {}});
    };
    try {
      generate_all(engine_, generate_options_, options_.parallel, next, finished, &interrupted());
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kCancelled) throw;
    }
    BatchCounts counts = queue.counts();
    counts.interrupted = interrupted().load();
    return counts;
  }

 private:
  /// The row's prompt, or null and what is wrong with this row alone.
  std::optional<std::vector<int32_t>> encode_row(const BatchRow& row, std::string& error) const {
    error = row.error;
    if (!error.empty()) return std::nullopt;
    try {
      std::vector<int32_t> ids = encode(row.prompt);
      if (!ids.empty() && std::ssize(ids) <= context_) return ids;
      error =
          fmt::format("the prompt is {} tokens long; it must be 1 to {}, the context", ids.size(), context_);
    } catch (const Error& what) {
      if (what.code() != ErrorCode::kOutOfRange && what.code() != ErrorCode::kInvalidArgument) throw;
      error = what.what();
    }
    return std::nullopt;
  }

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

  const BatchOptions& options_;
  GenerateOptions generate_options_;
  std::shared_ptr<const Model> model_;
  ChatTemplate chat_template_;
  Engine engine_;
  int64_t context_;
  bool chat_ = false;
};

int batch(const BatchOptions& options, const CommonOptions& common) {
  const InterruptScope interrupt_scope;
  auto input = BatchInput::open(options.input);
  using Existing = BatchOutput::Existing;
  BatchRunner runner(options, common);  // before the output: a model that does not load leaves no file behind
  BatchOutput output(options.output, options.resume      ? Existing::kResume
                                     : options.overwrite ? Existing::kOverwrite
                                                         : Existing::kRefuse);
  const BatchCounts counts = runner.run(*input, output);
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

void add_batch_command(Command app, Program& program) {
  auto options = std::make_shared<BatchOptions>();
  const Command command =
      add_command(app, program, "batch", "Continue every prompt of a file", options, &batch);
  command.footer(kBatchFooter);
  command.add_option("-i,--input", options->input, "Prompts: .txt, .jsonl or .csv")
      .type_name("FILE")
      .required();
  command.add_option("-o,--output", options->output, "Results: .jsonl, .csv or .txt")
      .type_name("FILE")
      .required();
  const Option resume =
      command.add_flag("--resume", options->resume, "Keep the rows in the output and go on after them");
  command.add_flag("--overwrite", options->overwrite, "Replace an output that exists").excludes(resume);
  add_model_option(command, program.common);
  add_threads_option(command, program.common);
  add_isa_option(command, program.common);
  add_weight_options(command, program.common);
  add_device_option(command, program.common);
  command.add_flag("--chat", options->chat, "Put each prompt into the chat template as the user's message");
  add_template_options(command, options->chat_template);
  command.add_option("--parallel", options->parallel, "Rows computed together; the texts do not depend on it")
      .between(1, 4096)
      .show_default();
  command.add_flag("--no-bos", options->no_bos, "Do not put the model's BOS token first");
  add_generation_options(command, options->generation);
}

}  // namespace bitnet::cli
