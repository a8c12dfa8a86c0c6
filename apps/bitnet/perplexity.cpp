#include "bitnet/inference/generate.h"
#include "commands.h"
#include "errors.h"
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

constexpr const char* kPerplexityFooter = R"(Examples:
  bitnet perplexity -f eval.txt
  bitnet perplexity -m model.gguf -f eval.txt --window 1023 --json
  bitnet perplexity --ids 0,51,1454,548

A text is tokenized without special tokens and cut into windows that do not overlap; BOS stands before each, so that
every token is predicted once. --ids are one window as they stand: the first token is context only.)";

struct PerplexityOptions {
  InputOptions input;
  CacheOptions cache;
  int64_t window = 0;
};

PerplexityResult measure(const PerplexityOptions& options, const Input& input, Session& session) {
  if (input.ids) {
    check_ids(*input.ids, session.model().config().vocab_size);
    return perplexity_of_ids(session, *input.ids);
  }
  // BOS takes one place of the context.
  const int64_t window = options.window > 0 ? options.window : session.context() - 1;
  const std::vector<int32_t> ids =
      session.model().require_tokenizer().encode(input.text, {.add_special = false, .parse_special = false});
  if (ids.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "the text is empty: there is nothing to predict",
                "give a text with -f, -p or standard input");
  }
  Progress progress("perplexity");
  return perplexity(session, ids, window, progress.callback());
}

int perplexity_command(const PerplexityOptions& options, const CommonOptions& common) {
  const InterruptScope interrupt_scope;
  const Input input = read_input(options.input);
  Session session = open_session(load_model(common), common, options.cache);
  const PerplexityResult result = measure(options, input, session);
  if (common.json) {
    print_json(
        {{"tokens", result.tokens}, {"mean_nll", result.mean_nll}, {"perplexity", result.perplexity()}});
  } else {
    write_out(fmt::format("perplexity {:.4f} (mean negative log-likelihood {:.6f} nats over {} tokens)\n",
                          result.perplexity(), result.mean_nll, result.tokens));
  }
  return kExitOk;
}

}  // namespace

void add_perplexity_command(Command app, Program& program) {
  auto options = std::make_shared<PerplexityOptions>();
  const Command command = add_command(app, program, "perplexity", "Measure how well a model predicts a text",
                                      options, &perplexity_command);
  command.footer(kPerplexityFooter);
  add_model_option(command, program.common);
  add_threads_option(command, program.common);
  add_isa_option(command, program.common);
  add_weight_options(command, program.common);
  add_device_option(command, program.common);
  add_input_options(command, options->input);
  add_cache_options(command, options->cache);
  command
      .add_option("--window", options->window, "Tokens in a window (default: the context less one, for BOS)")
      .between(1, int64_t{1} << 24)
      .type_name("N");
}

}  // namespace bitnet::cli
