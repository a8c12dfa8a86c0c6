#pragma once

#include "arguments.h"
#include "bitnet/inference/model.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::cli {

/// Where text or token ids come from: -p, -f, --ids or standard input.
struct InputOptions {
  std::optional<std::string> text;
  std::string file;
  std::vector<std::string> ids;  ///< the words after --ids, joined before they are read
};
void add_input_options(Command command, InputOptions& options);

struct Input {
  std::string text;
  std::optional<std::vector<int32_t>> ids;  ///< then text means nothing
};
/// Reads the input exactly; with nothing named, standard input, or nothing if that is a terminal.
[[nodiscard]] Input read_input(const InputOptions& options);

/// How a prompt becomes tokens: run and logits.
struct PromptOptions {
  InputOptions input;
  bool no_bos = false;
  bool parse_special = false;
};
void add_prompt_options(Command command, PromptOptions& options);
/// read_input, less one final newline of a file or of standard input: editors and echo add it, and few
/// prompts mean it.
[[nodiscard]] Input read_prompt(const PromptOptions& options);

/// The prompt's tokens with the model's BOS. An empty text is BOS alone; throws kInvalidArgument if there is
/// none.
[[nodiscard]] std::vector<int32_t> encode_prompt(const Input& prompt, const PromptOptions& options,
                                                 const Model& model);

}  // namespace bitnet::cli
