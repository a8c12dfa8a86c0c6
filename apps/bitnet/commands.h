#pragma once

#include "common_options.h"

#include <functional>

#include <CLI/CLI.hpp>

namespace bitnet::cli {

/// What the command line asks for. Each add_*_command describes one command: its options, and as `action`
/// what to do when it is the one chosen. The action returns an exit code or throws.
struct Program {
  CommonOptions common;
  std::function<int()> action;
};

void add_run_command(CLI::App& app, Program& program);
void add_chat_command(CLI::App& app, Program& program);
void add_batch_command(CLI::App& app, Program& program);
void add_tokenize_command(CLI::App& app, Program& program);
void add_inspect_command(CLI::App& app, Program& program);
void add_info_command(CLI::App& app, Program& program);
void add_logits_command(CLI::App& app, Program& program);
void add_perplexity_command(CLI::App& app, Program& program);
void add_bench_command(CLI::App& app, Program& program);
void add_synth_command(CLI::App& app, Program& program);
void add_convert_command(CLI::App& app, Program& program);

/// A new command with --json and --verbose, whose action is body(options, common).
template <class Options>
CLI::App& add_command(CLI::App& app, Program& program, const char* name, const char* text,
                      std::shared_ptr<Options> options,
                      int (*body)(const Options& options, const CommonOptions& common)) {
  CLI::App& command = *app.add_subcommand(name, text);
  add_output_options(command, program.common);
  command.final_callback([&program, options, body] {
    program.action = [&program, options, body] { return body(*options, program.common); };
  });
  return command;
}

}  // namespace bitnet::cli
