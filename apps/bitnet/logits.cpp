#include "bitnet/inference/session.h"
#include "bitnet/io/safetensors.h"
#include "commands.h"
#include "errors.h"
#include "interrupt.h"
#include "progress.h"
#include "prompt.h"
#include "terminal.h"
#include "text.h"

#include <memory>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kLogitsFooter = R"(Examples:
  bitnet logits -p "Once upon a time" -o logits.safetensors
  bitnet logits -m model.gguf --ids 1,2,3 -o logits.safetensors
  bitnet logits --ids 1,2,3 --oracle -o expected.safetensors     (the slow reference forward pass)

The file holds one tensor "logits", f32 [T, V]: row t are the logits after token t.)";

struct LogitsOptions {
  PromptOptions prompt;
  CacheOptions cache;
  std::string output;
  bool oracle = false;
};

/// Streams rows into the file: a long text with a large vocabulary need not fit into memory.
class LogitsWriter {
 public:
  LogitsWriter(const std::string& path, int64_t tokens, int64_t vocab_size) : writer_(path) {
    writer_.add_tensor("logits", DType::kF32, {tokens, vocab_size});
    writer_.begin();
  }
  void write(std::span<const float> logits) { writer_.write(std::as_bytes(logits)); }
  void finish() { writer_.finish(); }

 private:
  SafetensorsWriter writer_;
};

int logits(const LogitsOptions& options, const CommonOptions& common) {
  const InterruptScope interrupt_scope;
  const Input input = read_prompt(options.prompt);
  const auto model = load_model(common);
  const std::vector<int32_t> ids = encode_prompt(input, options.prompt, *model);
  const auto tokens = static_cast<int64_t>(ids.size());
  const int64_t vocab_size = model->config().vocab_size;
  std::string isa = "oracle";
  int threads = 1;
  if (options.oracle) {
    const std::vector<float> all = reference_logits(model->path(), ids);
    LogitsWriter writer(options.output, tokens, vocab_size);
    writer.write(all);
    writer.finish();
  } else {
    Session session = open_session(model, common, options.cache);
    isa = session.isa();
    threads = session.threads();
    LogitsWriter writer(options.output, tokens, vocab_size);
    Progress progress("logits");
    session.append_each(ids, [&](int64_t index, std::span<const float> row) {
      writer.write(row);
      progress.update(index + 1, tokens);
    });
    writer.finish();
  }
  if (common.json) {
    print_json({{"output", options.output},
                {"shape", {tokens, vocab_size}},
                {"ids", ids},
                {"isa", isa},
                {"threads", threads},
                {"model", model->path().string()}});
  } else {
    write_out(fmt::format("{}: logits f32 [{}, {}]\n", escape_controls(options.output), tokens, vocab_size));
  }
  return kExitOk;
}

}  // namespace

void add_logits_command(Command app, Program& program) {
  auto options = std::make_shared<LogitsOptions>();
  const Command command =
      add_command(app, program, "logits", "Write the logits of every token of a text", options, &logits);
  command.footer(kLogitsFooter);
  add_model_option(command, program.common);
  add_threads_option(command, program.common);
  add_isa_option(command, program.common);
  add_weight_options(command, program.common);
  add_device_option(command, program.common);
  add_prompt_options(command, options->prompt);
  add_cache_options(command, options->cache);
  command.add_option("-o,--output", options->output, "The file to write")
      .type_name("FILE.safetensors")
      .required();
  command.add_flag("--oracle", options->oracle,
                   "Use the reference forward pass: one thread, plain loops, slow");
}

}  // namespace bitnet::cli
