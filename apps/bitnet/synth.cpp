#include "bitnet/model/convert.h"
#include "commands.h"
#include "errors.h"
#include "interrupt.h"
#include "progress.h"
#include "terminal.h"
#include "text.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kSynthFooter = R"(Examples:
  bitnet synth --list
  bitnet synth --preset bitnet-b1.58-2b-4t -o synthetic-2b-4t.gguf
  bitnet synth --hidden 64 --intermediate 128 --layers 2 --heads 2 --head-dim 32 --vocab 512 -o tiny.gguf

Weights are random: the model has the speed and the memory of a real one, and writes nonsense.)";

struct SynthCommandOptions {
  SynthOptions synth;
  std::string preset, output, arch, activation, linear_type = "i2_s", embedding_type = "f16";
  std::optional<int64_t> hidden, intermediate, layers, heads, kv_heads, head_dim, vocab, context;
  bool list = false;
};

/// What --hidden and the others change where no preset is named: a model that runs in no time.
ModelConfig small_model() {
  ModelConfig config;
  config.architecture = "bitnet-b1.58";
  config.name = "synthetic";
  config.hidden_size = 256;
  config.intermediate_size = 512;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  config.vocab_size = 1024;
  config.max_position = 512;
  return config;
}

void set_architecture(const std::string& name, ModelConfig& config) {
  config.architecture = name;
  config.sub_norms = name != "llama";
  config.activation = name == "llama" || name == "bitnet" ? Activation::kSilu : Activation::kRelu2;
}

ModelConfig resolve_config(const SynthCommandOptions& options) {
  ModelConfig config = options.preset.empty() ? small_model() : synth_preset(options.preset);
  if (!options.arch.empty()) set_architecture(options.arch, config);
  const auto set = [](const std::optional<int64_t>& asked, int64_t& value) {
    if (asked) value = *asked;
  };
  set(options.hidden, config.hidden_size);
  set(options.intermediate, config.intermediate_size);
  set(options.layers, config.num_layers);
  set(options.heads, config.num_heads);
  set(options.heads, config.num_kv_heads);
  set(options.kv_heads, config.num_kv_heads);
  set(options.vocab, config.vocab_size);
  set(options.context, config.max_position);
  if ((options.hidden || options.heads) && config.num_heads > 0)
    config.head_dim = config.hidden_size / config.num_heads;
  set(options.head_dim, config.head_dim);
  try {
    config.validate();
  } catch (const Error& error) {  // here the shape comes from the command line, not from a file
    throw Error(ErrorCode::kInvalidArgument, error.what(), error.hint());
  }
  return config;
}

int list_presets(const CommonOptions& common) {
  if (common.json) {
    print_json({{"presets", synth_preset_names()}});
    return kExitOk;
  }
  std::string text;
  for (const std::string& name : synth_preset_names()) {
    const ModelConfig config = synth_preset(name);
    text += fmt::format("{:<22} hidden {}, intermediate {}, layers {}, heads {}/{}, head_dim {}, vocab {}\n",
                        name, config.hidden_size, config.intermediate_size, config.num_layers,
                        config.num_heads, config.num_kv_heads, config.head_dim, config.vocab_size);
  }
  write_out(text);
  return kExitOk;
}

int synth(const SynthCommandOptions& options, const CommonOptions& common) {
  if (options.list) return list_presets(common);
  if (options.output.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "-o FILE is needed: where to write the model",
                "see bitnet synth --help, or --list for the presets");
  }
  const InterruptScope interrupt_scope;
  SynthOptions synth_options = options.synth;
  synth_options.config = resolve_config(options);
  synth_options.linear_type = *dtype_from_name(options.linear_type);
  synth_options.embedding_type = *dtype_from_name(options.embedding_type);
  {
    Progress progress("writing");
    synth_options.progress = progress.callback();
    synthesize(synth_options, options.output);
  }
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(options.output));
  if (common.json) {
    print_json({{"output", options.output}, {"bytes", bytes}, {"seed", synth_options.seed}});
  } else {
    write_out(fmt::format("{}: {}\n", escape_controls(options.output), format_bytes(bytes)));
  }
  return kExitOk;
}

void add_shape_options(Command command, SynthCommandOptions& options) {
  const auto add = [command](const char* name, std::optional<int64_t>& value, const char* text) {
    command.add_option(name, value, text).between(1, int64_t{1} << 24).type_name("N").group("Shape");
  };
  command.add_option("--arch", options.arch, "GGUF architecture")
      .one_of({"bitnet-b1.58", "bitnet-25", "bitnet", "llama"})
      .group("Shape");
  add("--hidden", options.hidden, "Hidden size");
  add("--intermediate", options.intermediate, "Size of the feed-forward layer");
  add("--layers", options.layers, "Layers");
  add("--heads", options.heads, "Attention heads");
  add("--kv-heads", options.kv_heads, "Key and value heads (default: as many as --heads)");
  add("--head-dim", options.head_dim, "Size of a head (default: hidden size / heads)");
  add("--vocab", options.vocab, "Vocabulary");
  add("--context", options.context, "Context length");
}

}  // namespace

void add_synth_command(Command app, Program& program) {
  auto options = std::make_shared<SynthCommandOptions>();
  const Command command = add_command(
      app, program, "synth", "Write a model of random weights, for benchmarks and tests", options, &synth);
  command.footer(kSynthFooter);
  command.add_option("--preset", options->preset, "A named shape, see --list").type_name("NAME");
  command.add_flag("--list", options->list, "List the presets");
  command.add_option("-o,--output", options->output, "The file to write").type_name("FILE.gguf");
  command.add_option("--seed", options->synth.seed, "Seed of the weights").show_default();
  command.add_option("--type", options->linear_type, "Type of the linear layers")
      .one_of({"i2_s", "tq1_0", "tq2_0", "f16", "bf16", "f32"})
      .show_default();
  command.add_option("--embedding", options->embedding_type, "Type of the embedding and head")
      .one_of({"f32", "f16", "bf16", "q8_0", "q6_k", "q4_0"})
      .show_default();
  command
      .add_option("--closed-gates", options->synth.closed_gates,
                  "Share of the squared-ReLU gates to close (default: half are), e.g. storyteller's 0.668")
      .type_name("SHARE");
  add_shape_options(command, *options);
}

}  // namespace bitnet::cli
