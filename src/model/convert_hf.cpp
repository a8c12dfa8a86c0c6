#include "bitnet/core/atomic_file.h"
#include "bitnet/core/error.h"
#include "model/checkpoint_builder.h"
#include "model/convert_plan.h"

#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace bitnet {
namespace {

constexpr std::array kHfLinearTypes = {DType::kHfTernary, DType::kBF16, DType::kF16, DType::kF32};
constexpr std::array kHfEmbeddingTypes = {DType::kF32, DType::kF16, DType::kBF16};

bool is_master_type(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

/// A folder that takes its name only when it is complete.
class AtomicFolder {
 public:
  explicit AtomicFolder(std::filesystem::path target) : target_(std::move(target)) {
    if (target_.filename().empty()) target_ = target_.parent_path();  // "out/" means "out"
    std::error_code failure;
    if (std::filesystem::exists(target_, failure) && !std::filesystem::is_empty(target_, failure)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} exists and is not an empty folder", target_.string()),
                  "remove it, or choose another output folder");
    }
    temporary_ = target_;
    temporary_ += fmt::format(".{}.part", ::getpid());
    std::filesystem::create_directories(temporary_, failure);
    if (failure) fail("create", temporary_, failure);
  }
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder() {
    std::error_code ignored;
    if (!committed_) std::filesystem::remove_all(temporary_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return temporary_; }

  void commit() {
    std::error_code failure;
    std::filesystem::rename(temporary_, target_, failure);
    if (failure) fail("rename to", target_, failure);
    committed_ = true;
  }

 private:
  [[noreturn]] static void fail(std::string_view action, const std::filesystem::path& path,
                                const std::error_code& failure) {
    throw Error(ErrorCode::kIo, fmt::format("cannot {} {}: {}", action, path.string(), failure.message()),
                "check that the folder above it exists and can be written");
  }

  std::filesystem::path target_, temporary_;
  bool committed_ = false;
};

std::vector<OutputTensor> plan_hf(const Checkpoint& source, const ConvertOptions& options,
                                  ConvertReport& report) {
  const DType linear_type = chosen_type(options.linear_type, DType::kHfTernary, kHfLinearTypes,
                                        "linear layers in a Hugging Face folder");
  std::vector<OutputTensor> plan;
  for (const TensorRole& role : tensor_roles(source.config())) {
    OutputTensor& tensor = plan.emplace_back();
    tensor.name = hf_tensor_names(role.name).front();
    tensor.shape = role.shape;
    if (role.kind == TensorKind::kLinear) {
      tensor.linear = &source.linear(role.name);
      tensor.dtype = linear_type;
      tensor.keep_master =
          is_master_type(linear_type) && tensor.linear->kind() == TernarySource::Kind::kMaster;
      if (linear_type != DType::kHfTernary) continue;
      tensor.scale_follows = true;
      const std::string scale_name = tensor.name + "_scale";
      OutputTensor& scale = plan.emplace_back();  // `tensor` is no longer valid
      scale.name = scale_name;
      scale.shape = {1};
      continue;
    }
    tensor.dense = &source.dense(role.name);
    const DType stored = tensor.dense->dtype;
    const DType kept = is_master_type(stored) ? stored : DType::kF32;
    tensor.dtype = role.kind == TensorKind::kNorm
                       ? kept
                       : chosen_type(options.embedding_type, kept, kHfEmbeddingTypes,
                                     "embedding and head in a Hugging Face folder");
    if (!is_master_type(stored) && tensor.dtype == DType::kF32) {
      report.notes.push_back(
          fmt::format("{} is stored as f32: {} has no type in safetensors; its values are kept", tensor.name,
                      to_string(stored)));
    }
  }
  return plan;
}

std::string_view torch_name(DType dtype) {
  return dtype == DType::kF16 ? "float16" : dtype == DType::kBF16 ? "bfloat16" : "float32";
}

HfConfig hf_config(const Checkpoint& source, const std::vector<OutputTensor>& plan) {
  HfConfig config;
  config.model = source.config();
  config.torch_dtype = torch_name(plan.front().dtype);  // the embedding's
  config.bos_token_id = source.bos_token();
  const auto& tokenizer = source.tokenizer();
  if (tokenizer && tokenizer->eos) {
    config.eos_token_ids = {*tokenizer->eos};
  } else {
    config.eos_token_ids = source.stop_tokens();
  }
  config.quantization.linear_class = HfQuantization::LinearClass::kAutoBitLinear;
  bool packed = false, master = false;
  for (const OutputTensor& tensor : plan) {
    packed = packed || tensor.dtype == DType::kHfTernary;
    master = master || tensor.keep_master;
  }
  // Float weights that are ternary already must not be quantized once more: absmean would shrink them.
  config.quantization.offline = packed;
  config.quantization.declared = packed || master || config.model.projection_norms;
  return config;
}

void write_text(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void write_generation_config(const Checkpoint& source, const std::filesystem::path& folder) {
  nlohmann::ordered_json json;
  if (source.bos_token()) json["bos_token_id"] = *source.bos_token();
  const std::vector<int32_t>& stops = source.stop_tokens();
  if (stops.size() == 1) json["eos_token_id"] = stops.front();
  if (stops.size() > 1) json["eos_token_id"] = stops;
  if (!json.empty()) write_text(folder / "generation_config.json", json.dump(1) + "\n");
}

OutputFindings write_weights(const std::vector<OutputTensor>& plan, const std::filesystem::path& path,
                             const ConvertOptions& options) {
  SafetensorsWriter writer(path, {{"format", "pt"}});
  for (const OutputTensor& tensor : plan) {
    if (tensor.dtype == DType::kHfTernary) {
      writer.add_tensor(tensor.name, DType::kU8, {tensor.shape[0] / 4, tensor.shape[1]});
    } else {
      writer.add_tensor(tensor.name, tensor.dtype, tensor.shape);
    }
  }
  writer.begin();
  OutputFindings findings = write_tensors(
      plan, [&](std::span<const std::byte> part) { writer.write(part); }, options.progress);
  writer.finish();
  return findings;
}

int64_t folder_bytes(const std::filesystem::path& folder) {
  int64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

void add_notes(const Checkpoint& source, const HfConfig& config, ConvertReport& report) {
  if (config.model.architecture == "bitnet-25") {
    report.notes.push_back(
        "architecture bitnet-25 is called bitnet-b1.58 from now on: Hugging Face knows one name");
  }
  if (!config.model.rope_factors.empty()) {
    report.notes.push_back("RoPE factors are written as rope_type 'factors', which only bitnet reads");
  }
  if (!config.quantization.declared) {
    report.notes.push_back(
        "float weights that are ternary: other programs will run them without 8-bit activations");
  }
  if (!source.tokenizer())
    report.notes.push_back("the source holds no tokenizer, so neither does the output");
}

}  // namespace

ConvertReport convert_to_huggingface(const Checkpoint& source, const std::filesystem::path& output,
                                     const ConvertOptions& options) {
  ConvertReport report;
  const std::vector<OutputTensor> plan = plan_hf(source, options, report);
  for (const OutputTensor& tensor : plan) (void)output_bytes(tensor);  // refuses before anything is written
  const HfConfig config = hf_config(source, plan);

  AtomicFolder folder(output);
  const OutputFindings findings = write_weights(plan, folder.path() / "model.safetensors", options);
  write_text(folder.path() / "config.json", hf_config_to_json(config));
  write_generation_config(source, folder.path());
  if (source.tokenizer()) write_tokenizer_files(*source.tokenizer(), folder.path());
  report.bytes_written = folder_bytes(folder.path());
  folder.commit();
  add_notes(source, config, report);
  report_findings(findings, report);
  report.tensors = std::ssize(plan);
  return report;
}

}  // namespace bitnet
