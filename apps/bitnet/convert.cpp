#include "bitnet/model/convert.h"

#include "bitnet/model/checkpoint.h"
#include "commands.h"
#include "errors.h"
#include "interrupt.h"
#include "progress.h"
#include "terminal.h"
#include "text.h"

#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kConvertFooter = R"(Examples:
  bitnet convert ./bitnet-b1.58-2B-4T -o model.gguf
  bitnet convert model.gguf -o ./folder
  bitnet convert model.gguf -o small.gguf --type tq1_0 --embedding q6_k

The output appears whole or not at all. The report says whether anything was lost.)";

struct ConvertCommandOptions {
  std::string source, output, to, linear_type, embedding_type;
};

ConvertOptions resolve(const ConvertCommandOptions& options) {
  ConvertOptions resolved;
  const bool gguf = options.to.empty() ? std::filesystem::path(options.output).extension() == ".gguf"
                                       : options.to == "gguf";
  resolved.target = gguf ? ConvertOptions::Target::kGguf : ConvertOptions::Target::kHuggingFace;
  if (options.linear_type == "packed") {
    if (gguf) {
      throw Error(ErrorCode::kInvalidArgument, "--type packed is the packing of Hugging Face folders",
                  "for GGUF take i2_s, tq1_0 or tq2_0");
    }
    resolved.linear_type = DType::kHfTernary;
  } else if (!options.linear_type.empty()) {
    resolved.linear_type = dtype_from_name(options.linear_type);
  }
  if (!options.embedding_type.empty()) resolved.embedding_type = dtype_from_name(options.embedding_type);
  return resolved;
}

int convert_command(const ConvertCommandOptions& options, const CommonOptions& common) {
  const InterruptScope interrupt_scope;
  ConvertOptions convert_options = resolve(options);
  const Checkpoint source = Checkpoint::open(options.source);
  ConvertReport report;
  {
    Progress progress("converting");
    convert_options.progress = progress.callback();
    report = convert(source, options.output, convert_options);
  }
  if (common.json) {
    print_json({{"output", options.output},
                {"lossless", report.lossless},
                {"losses", report.losses},
                {"bytes", report.bytes_written},
                {"tensors", report.tensors}});
    return kExitOk;
  }
  std::string text =
      fmt::format("{}: {} tensors, {}, {}\n", escape_controls(options.output), report.tensors,
                  format_bytes(report.bytes_written), report.lossless ? "lossless" : "not lossless:");
  for (const std::string& loss : report.losses) text += fmt::format("  {}\n", escape_controls(loss));
  write_out(text);
  return kExitOk;
}

}  // namespace

void add_convert_command(Command app, Program& program) {
  auto options = std::make_shared<ConvertCommandOptions>();
  const Command command = add_command(
      app, program, "convert", "Convert between GGUF and Hugging Face folders", options, &convert_command);
  command.footer(kConvertFooter);
  command.add_option("SOURCE", options->source, "A .gguf file or Hugging Face folder").required();
  command.add_option("-o,--output", options->output, "The .gguf file or folder to write")
      .type_name("OUTPUT")
      .required();
  command.add_option("--to", options->to, "Format of the output (default: by its extension)")
      .one_of({"gguf", "hf"});
  command
      .add_option("--type", options->linear_type,
                  "Type of the linear layers (default: i2_s, or packed in a folder)")
      .one_of({"i2_s", "tq1_0", "tq2_0", "f16", "bf16", "f32", "packed"});
  command
      .add_option("--embedding", options->embedding_type,
                  "Type of the embedding and head (default: as it is)")
      .one_of({"f32", "f16", "bf16", "q8_0", "q6_k", "q4_0"});
}

}  // namespace bitnet::cli
