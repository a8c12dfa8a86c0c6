#pragma once

#include "arguments.h"
#include "common_options.h"

#include <functional>

namespace bitnet::cli {

/// What the command line asks for. Each add_*_command describes one command: its options, and as `action`
/// what to do when it is the one chosen. The action returns an exit code or throws.
struct Program {
  CommonOptions common;
  std::function<int()> action;
};

void add_run_command(Command app, Program& program);
void add_chat_command(Command app, Program& program);
void add_batch_command(Command app, Program& program);
void add_tokenize_command(Command app, Program& program);
void add_inspect_command(Command app, Program& program);
void add_info_command(Command app, Program& program);
void add_logits_command(Command app, Program& program);
void add_perplexity_command(Command app, Program& program);
void add_bench_command(Command app, Program& program);
void add_synth_command(Command app, Program& program);
void add_convert_command(Command app, Program& program);

/// A new command with --json and --verbose, whose action is body(options, common).
template <class Options>
Command add_command(Command app, Program& program, const char* name, const char* text,
                    std::shared_ptr<Options> options,
                    int (*body)(const Options& options, const CommonOptions& common)) {
  const Command command = app.add_command(name, text);
  add_output_options(command, program.common);
  command.when_chosen([&program, options, body] {
    program.action = [&program, options, body] { return body(*options, program.common); };
  });
  return command;
}

}  // namespace bitnet::cli
