#include "commands.h"
#include "errors.h"
#include "interrupt.h"
#include "terminal.h"

#include <csignal>
#include <string>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kProgramFooter = R"(Examples:
  bitnet run -p "Once upon a time there was"
  bitnet chat -m bitnet-2b-4t.gguf
  bitnet convert ./bitnet-b1.58-2B-4T -o bitnet-2b-4t.gguf
  bitnet COMMAND --help

Exit codes: 0 success, 1 failure, 2 usage, 3 invalid or corrupt input, 4 unsupported, 130 interrupted.)";

void add_commands(Command app, Program& program) {
  add_run_command(app, program);
  add_chat_command(app, program);
  add_batch_command(app, program);
  add_tokenize_command(app, program);
  add_inspect_command(app, program);
  add_info_command(app, program);
  add_logits_command(app, program);
  add_perplexity_command(app, program);
  add_bench_command(app, program);
  add_synth_command(app, program);
  add_convert_command(app, program);
}

int print_version(const CommonOptions& common) {
  if (common.json) {
    print_json({{"version", BITNET_VERSION}});
  } else {
    write_out("bitnet " BITNET_VERSION "\n");
  }
  return kExitOk;
}

int parse_and_act(int argc, char** argv) {
  Program program;
  bool version = false;
  Arguments arguments(
      "bitnet", "BitNet b1.58 models (ternary weights, int8 activations) on CPUs and NVIDIA GPUs, exactly.");
  const Command app = arguments.program();
  app.footer(kProgramFooter);
  app.add_flag("--version", version, "Print the version");
  add_output_options(app, program.common);
  add_commands(app, program);
  try {
    if (const auto help = arguments.parse(argc, argv)) {
      write_out(*help);
      return kExitOk;
    }
  } catch (const UsageError& error) {
    print_error(error.message, fmt::format("see {} --help", error.command));
    return kExitUsage;
  }
  if (version) return print_version(program.common);
  if (!program.action) {
    print_error("a command is needed", "see bitnet --help, or begin with: bitnet run");
    return kExitUsage;
  }
  start_logging(program.common);
  return program.action();
}

}  // namespace
}  // namespace bitnet::cli

int main(int argc, char** argv) {
  using namespace bitnet::cli;
  // A reader that goes away (`bitnet run | head`) ends the program without a word, even if the parent ignores
  // SIGPIPE.
  ::signal(SIGPIPE, SIG_DFL);
  reserve_standard_streams();
  return guarded([&] {
    install_interrupt_handler();
    return parse_and_act(argc, argv);
  });
}
