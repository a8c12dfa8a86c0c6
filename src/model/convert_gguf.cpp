#include "bitnet/core/error.h"
#include "model/checkpoint_builder.h"
#include "model/config_rules.h"
#include "model/convert_plan.h"
#include "model/gguf_model.h"

#include <array>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr std::array kGgufLinearTypes = {DType::kI2_S, DType::kTQ1_0, DType::kTQ2_0,
                                         DType::kF16,  DType::kBF16,  DType::kF32};
constexpr std::array kGgufEmbeddingTypes = {DType::kF32,  DType::kF16,  DType::kBF16,
                                            DType::kQ8_0, DType::kQ6_K, DType::kQ4_0};

/// general.file_type, as llama.cpp and microsoft/BitNet number them.
uint32_t file_type(DType linear_type) {
  switch (linear_type) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kBF16:
      return 32;
    case DType::kTQ1_0:
      return 36;
    case DType::kTQ2_0:
      return 37;
    default:
      return 40;
  }
}

std::vector<OutputTensor> plan_gguf(const Checkpoint& source, const ConvertOptions& options) {
  const ModelConfig& config = source.config();
  const DType linear_type = gguf_linear_type(options.linear_type);
  const bool permuted = architecture_defaults(config.architecture).permuted_in_gguf;
  std::vector<OutputTensor> plan;
  plan_rope_factors(config, plan);
  for (const TensorRole& role : tensor_roles(config)) {
    OutputTensor& tensor = plan.emplace_back();
    tensor.name = role.name;
    tensor.shape = role.shape;
    if (role.kind == TensorKind::kLinear) {
      tensor.linear = &source.linear(role.name);
      tensor.dtype = linear_type;
      if (role.rotary && permuted) tensor.order = RowOrder::interleaved(config.head_dim);
      continue;
    }
    tensor.dense = &source.dense(role.name);
    if (role.kind != TensorKind::kEmbedding) continue;  // norms are f32
    const DType kept = tensor.dense->dtype == DType::kF64 ? DType::kF32 : tensor.dense->dtype;
    tensor.dtype = gguf_embedding_type(options.embedding_type, kept);
  }
  return plan;
}

void note_odd_rows(const std::vector<OutputTensor>& plan, ConvertReport& report) {
  constexpr int64_t kBlock = 128;
  for (const OutputTensor& tensor : plan) {
    if (tensor.dtype != DType::kI2_S || tensor.shape[1] % kBlock == 0) continue;
    report.notes.push_back(
        fmt::format("{} has rows of {} weights: i2_s kernels of other engines need multiples of {}",
                    tensor.name, tensor.shape[1], kBlock));
    return;  // one line tells it
  }
}

void note_config(const ModelConfig& config, ConvertReport& report) {
  if (static_cast<double>(static_cast<float>(config.rope_theta)) != config.rope_theta) {
    report.losses.push_back(fmt::format("rope_theta {} rounded to f32", config.rope_theta));
  }
  if (config.activation != architecture_defaults(config.architecture).activation) {
    report.notes.push_back(
        fmt::format("architecture {} implies another activation than {}: other engines will compute "
                    "something else",
                    config.architecture, to_string(config.activation)));
  }
  if (config.projection_norms) {
    report.notes.push_back("projection norms (*_norm_in) are not known to most other engines");
  }
}

}  // namespace

DType gguf_linear_type(std::optional<DType> chosen) {
  return chosen_type(chosen, DType::kI2_S, kGgufLinearTypes, "linear layers in GGUF");
}

DType gguf_embedding_type(std::optional<DType> chosen, DType otherwise) {
  return chosen_type(chosen, otherwise, kGgufEmbeddingTypes, "embedding and head in GGUF");
}

void plan_rope_factors(const ModelConfig& config, std::vector<OutputTensor>& plan) {
  const bool llama3 = config.rope_scaling.type == RopeScaling::Type::kLlama3;
  if (!llama3 && config.rope_factors.empty()) return;
  OutputTensor& tensor = plan.emplace_back();
  tensor.name = "rope_freqs.weight";
  tensor.values = llama3 ? llama3_rope_factors(config) : config.rope_factors;
  tensor.shape = {std::ssize(tensor.values)};
}

void add_model_metadata(const GgufModelMetadata& metadata, GgufWriter& writer) {
  add_config_to_gguf(metadata.config, writer);
  writer.add("general.file_type", GgufValue::u32(file_type(metadata.linear_type)));
  writer.add("general.quantization_version", GgufValue::u32(2));
  if (!metadata.stop_tokens.empty()) {
    writer.add("bitnet.stop_token_ids", GgufValue::i32_array(metadata.stop_tokens));
  }
  if (metadata.tokenizer) {
    add_tokenizer_to_gguf(*metadata.tokenizer, writer);
  }
  if (metadata.bos_token && !(metadata.tokenizer && metadata.tokenizer->bos)) {
    writer.add("tokenizer.ggml.bos_token_id", GgufValue::u32(static_cast<uint32_t>(*metadata.bos_token)));
  }
}

OutputFindings write_gguf_model(const GgufModelMetadata& metadata, const std::vector<OutputTensor>& tensors,
                                const std::filesystem::path& output,
                                const std::function<void(int64_t done, int64_t total)>& progress) {
  GgufWriter writer(output);
  add_model_metadata(metadata, writer);
  for (const OutputTensor& tensor : tensors) writer.add_tensor(tensor.name, tensor.dtype, tensor.shape);
  writer.begin();
  OutputFindings findings = write_tensors(
      tensors, [&](std::span<const std::byte> part) { writer.write(part); }, progress);
  writer.finish();
  return findings;
}

ConvertReport convert_to_gguf(const Checkpoint& source, const std::filesystem::path& output,
                              const ConvertOptions& options) {
  ConvertReport report;
  const std::vector<OutputTensor> plan = plan_gguf(source, options);
  for (const OutputTensor& tensor : plan) (void)output_bytes(tensor);  // refuses before anything is written
  note_odd_rows(plan, report);
  note_config(source.config(), report);

  const OutputFindings findings =
      write_gguf_model({source.config(), source.tokenizer(), source.bos_token(), source.stop_tokens(),
                        gguf_linear_type(options.linear_type)},
                       plan, output, options.progress);
  report_findings(findings, report);
  report.bytes_written = static_cast<int64_t>(std::filesystem::file_size(output));
  report.tensors = std::ssize(plan);
  return report;
}

}  // namespace bitnet
