#include "prompt.h"

#include "bitnet/core/error.h"
#include "terminal.h"
#include "text.h"

#include <fmt/format.h>

namespace bitnet::cli {

void add_input_options(Command command, InputOptions& options) {
  const Option text = command.add_option("-p,--prompt", options.text, "The text").type_name("TEXT");
  const Option file =
      command.add_option("-f,--file", options.file, "A file with the text (-: standard input)")
          .type_name("FILE");
  const Option ids =
      command.add_option("--ids", options.ids, "Token ids instead of text, e.g. 1,2,3").type_name("IDS");
  text.excludes(file).excludes(ids);
  file.excludes(ids);
}

Input read_input(const InputOptions& options) {
  Input input;
  if (!options.ids.empty()) {
    input.ids = parse_ids(fmt::format("{}", fmt::join(options.ids, " ")));
  } else if (options.text) {
    input.text = *options.text;
  } else if (!options.file.empty()) {
    input.text = read_input(options.file);
  } else if (!stdin_is_terminal()) {
    input.text = read_input("-");
  }
  return input;
}

void add_prompt_options(Command command, PromptOptions& options) {
  add_input_options(command, options.input);
  command.add_flag("--no-bos", options.no_bos, "Do not put the model's BOS token first");
  command.add_flag("--parse-special", options.parse_special,
                   "Read special tokens in the text, e.g. <|eot_id|> (else they are plain text)");
}

Input read_prompt(const PromptOptions& options) {
  Input prompt = read_input(options.input);
  if (!options.input.text && prompt.text.ends_with('\n')) prompt.text.pop_back();
  return prompt;
}

std::vector<int32_t> encode_prompt(const Input& prompt, const PromptOptions& options, const Model& model) {
  if (prompt.ids) {
    check_ids(*prompt.ids, model.config().vocab_size);
    return *prompt.ids;
  }
  const Tokenizer& tokenizer = model.require_tokenizer();
  const TokenizerSpec& spec = tokenizer.spec();
  std::vector<int32_t> ids =
      tokenizer.encode(prompt.text, {.add_special = !options.no_bos, .parse_special = options.parse_special});
  // Some vocabularies ask for a closing EOS; a prompt goes on, so it has none.
  if (!options.no_bos && spec.add_eos && spec.eos && !ids.empty() && ids.back() == *spec.eos) ids.pop_back();
  if (ids.empty() && spec.bos && !options.no_bos) ids.push_back(*spec.bos);
  if (ids.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "the prompt is empty and there is no BOS token to begin with",
                "give a text with -p, -f or standard input, or token ids with --ids");
  }
  return ids;
}

}  // namespace bitnet::cli
