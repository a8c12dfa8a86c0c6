#include "bitnet/io/gguf.h"
#include "bitnet/tokenizer/tokenizer.h"
#include "commands.h"
#include "errors.h"
#include "prompt.h"
#include "terminal.h"
#include "text.h"

#include <memory>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kTokenizeFooter = R"(Examples:
  bitnet tokenize -p "Once upon a time"
  bitnet tokenize -m vocabulary.gguf -f text.txt --json
  bitnet tokenize --decode --ids 0,51,1454

MODEL may be a GGUF with a vocabulary and no weights, a folder with a tokenizer.json, or that file.)";

struct TokenizeOptions {
  InputOptions input;
  bool no_special = false, parse_special = false, decode = false;
};

/// Reads the tokenizer alone: the file may hold no weights, or weights that this build cannot run.
TokenizerSpec read_spec(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return tokenizer_spec_from_folder(path);
  if (path.extension() == ".json") {
    return tokenizer_spec_from_folder(path.has_parent_path() ? path.parent_path() : ".");
  }
  try {
    auto spec = tokenizer_spec_from_gguf(GgufFile::open(path));
    if (spec) return *std::move(spec);
  } catch (Error& error) {
    error.with_context(path.string());
    throw;
  }
  throw Error(ErrorCode::kUnsupported, fmt::format("{} holds no tokenizer", path.string()),
              "name a model or vocabulary that has one");
}

void print_text(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const TokenizeOptions& options,
                const CommonOptions& common) {
  const std::string text = tokenizer.decode(ids, !options.no_special);
  if (common.json) {
    print_json({{"text", text}, {"ids", ids}, {"count", ids.size()}});
  } else {
    write_generated(text);
    write_out("\n");
  }
}

void print_tokens(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const CommonOptions& common) {
  const std::vector<std::string>& vocabulary = tokenizer.spec().tokens;
  const auto text = [&vocabulary](int32_t id) -> const std::string& {
    return vocabulary.at(static_cast<size_t>(id));
  };
  if (common.json) {
    Json tokens = Json::array();
    for (const int32_t id : ids) tokens.push_back(text(id));
    print_json({{"ids", ids}, {"tokens", tokens}, {"count", ids.size()}});
    return;
  }
  std::string table;
  for (const int32_t id : ids) table += fmt::format("{:>8}  {}\n", id, in_quotes(text(id)));
  write_out(table + fmt::format("{} tokens\n", ids.size()));
}

int tokenize(const TokenizeOptions& options, const CommonOptions& common) {
  const Input input = read_input(options.input);
  if (options.decode != input.ids.has_value()) {
    throw Error(ErrorCode::kInvalidArgument,
                options.decode ? "--decode needs the tokens as --ids" : "--ids are only read with --decode",
                "text: -p, -f or standard input; ids: --decode --ids 1,2,3");
  }
  const Tokenizer tokenizer(read_spec(find_model(common)));
  if (options.decode) {
    check_ids(*input.ids, tokenizer.vocab_size());
    print_text(tokenizer, *input.ids, options, common);
  } else {
    const EncodeOptions encode{.add_special = !options.no_special, .parse_special = options.parse_special};
    print_tokens(tokenizer, tokenizer.encode(input.text, encode), common);
  }
  return kExitOk;
}

}  // namespace

void add_tokenize_command(Command app, Program& program) {
  auto options = std::make_shared<TokenizeOptions>();
  const Command command = add_command(app, program, "tokenize",
                                      "Show the tokens of a text, or the text of tokens", options, &tokenize);
  command.footer(kTokenizeFooter);
  add_model_option(command, program.common);
  add_input_options(command, options->input);
  command.add_flag("--no-special", options->no_special,
                   "Add no BOS or EOS; with --decode, leave special tokens out");
  command.add_flag("--parse-special", options->parse_special,
                   "Read special tokens in the text, e.g. <|eot_id|> (else they are plain text)");
  command.add_flag("--decode", options->decode, "Turn --ids into text");
}

}  // namespace bitnet::cli
