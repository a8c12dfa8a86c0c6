#pragma once

#include "arguments.h"
#include "bitnet/inference/generate.h"
#include "common_options.h"
#include "terminal.h"

#include <string>
#include <vector>

namespace bitnet::cli {

/// How to sample, when to stop, what to do with a full context: run, chat and batch.
struct GenerationOptions {
  GenerateOptions generate;
  CacheOptions cache;
  bool greedy = false;
  std::vector<std::string> logit_bias;  ///< ID=VALUE
};
void add_generation_options(Command command, GenerationOptions& options);
/// --speculate, for commands that compute one text at a time.
void add_speculation_option(Command command, GenerationOptions& options);

/// The options as the library takes them, checked. Throws kInvalidArgument. Call it before a model is loaded,
/// so that a typing error costs no wait.
[[nodiscard]] GenerateOptions resolve(const GenerationOptions& options);

/// --system and --template.
struct TemplateOptions {
  std::string name;
  std::string system;
};
void add_template_options(Command command, TemplateOptions& options);
/// The template named, else the model's. Throws kInvalidArgument on an unknown name.
[[nodiscard]] ChatTemplate choose_template(const TemplateOptions& options, const Model& model);

/// "prefill 512.0 tokens/s (8 tokens), decode 128.0 tokens/s (48 tokens)", and guesses if there were any.
[[nodiscard]] std::string describe_speed(const GenerateResult& result);
/// "stop_reason", the two speeds and, if there were any, guesses, as JSON fields.
void add_speed(Json& json, const GenerateResult& result);

}  // namespace bitnet::cli
