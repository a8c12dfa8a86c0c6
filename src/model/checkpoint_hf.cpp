#include "bitnet/core/log.h"
#include "bitnet/core/mapped_file.h"
#include "model/checkpoint_builder.h"
#include "model/json_object.h"

#include <cmath>

#include <fmt/format.h>

namespace bitnet {
namespace {

std::string read_text(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// The first of the tensor's names that the file has.
const RawTensor& require_any(TensorTable& table, const TensorRole& role) {
  const std::vector<std::string> names = hf_tensor_names(role.name);
  for (const std::string& name : names) {
    if (const RawTensor* tensor = table.take(name)) return *tensor;
  }
  return table.require(names.front());
}

/// W = q * weight_scale or q / weight_scale; the inverse is rounded to f32 once.
float packed_factor(const RawTensor& scale, HfQuantization::LinearClass linear_class) {
  const float stored = read_scale(scale);
  if (linear_class == HfQuantization::LinearClass::kAutoBitLinear) return stored;
  const float inverse = 1.0f / stored;
  if (std::isfinite(inverse) && inverse > 0) return inverse;
  throw Error(ErrorCode::kCorruptData,
              fmt::format("{}: the inverse of the scale {} is not a positive float", scale.name, stored));
}

void add_hf_linear(CheckpointParts& impl, const TensorRole& role, TensorTable& table,
                   const HfQuantization& quantization) {
  const RawTensor& tensor = require_any(table, role);
  LinearBytes linear;
  linear.dtype = tensor.dtype;
  linear.rows = role.shape[0];
  linear.cols = role.shape[1];
  linear.bytes = tensor.bytes;
  linear.label = fmt::format("{}: {}", impl.path.string(), tensor.name);
  linear.may_quantize = quantization.declared || impl.config.architecture != "llama";
  in_context(tensor.name, [&] {
    if (tensor.dtype == DType::kU8) {
      if (linear.rows % 4 != 0) {
        throw Error(ErrorCode::kCorruptData,
                    fmt::format("packed rows come in fours, but there are {}", linear.rows));
      }
      check_shape(tensor, {linear.rows / 4, linear.cols});
      linear.dtype = DType::kHfTernary;
    } else {
      check_shape(tensor, role.shape);
    }
  });
  if (linear.dtype == DType::kHfTernary) {
    linear.factor = packed_factor(table.require(tensor.name + "_scale"), quantization.linear_class);
  } else {
    // Older writers leave a weight_scale beside float weights; it has no meaning there.
    table.ignore(tensor.name + "_scale");
  }
  in_context(tensor.name, [&] { add_linear(impl, role, make_ternary_source(std::move(linear))); });
}

/// The tensors, not config.json, have the last word on which norms there are.
void settle_norms(ModelConfig& config, const TensorTable& table) {
  bool sub_norms = false, projection_norms = false;
  for (const std::string_view suffix :
       {".attn_sub_norm.weight", ".inner_attn_ln.weight", ".ffn_sub_norm.weight", ".ffn_layernorm.weight"}) {
    sub_norms = sub_norms || table.any_ends_with(suffix);
  }
  for (const std::string_view suffix : {"_proj.rms_norm.weight", "_proj.norm.weight"}) {
    projection_norms = projection_norms || table.any_ends_with(suffix);
  }
  config.projection_norms = config.projection_norms || projection_norms;
  if (!sub_norms || config.sub_norms) return;
  config.sub_norms = true;
  if (config.architecture == "llama") {
    config.architecture = config.activation == Activation::kRelu2 ? "bitnet-b1.58" : "bitnet";
  }
}

void ignore_known_extras(const ModelConfig& config, TensorTable& table) {
  for (const std::string& name : table.unused()) {
    if (name.ends_with("rotary_emb.inv_freq")) table.ignore(name);
  }
  if (config.tied_head) table.ignore("lm_head.weight");  // the embedding once more
}

/// The list of generation_config.json, which chat models end their turns with.
void add_generation_stops(const std::filesystem::path& folder, std::vector<int32_t>& ids) {
  const std::filesystem::path path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return;
  in_context("generation_config.json", [&] {
    const nlohmann::json parsed = JsonObject::parse(read_text(path));
    for (const int32_t id : JsonObject(parsed, "").token_ids("eos_token_id")) ids.push_back(id);
  });
}

void open_tokenizer(CheckpointParts& impl) {
  if (std::filesystem::exists(impl.path / "tokenizer.json")) {
    impl.tokenizer = in_context("tokenizer.json", [&] { return tokenizer_spec_from_folder(impl.path); });
  } else if (std::filesystem::exists(impl.path / "tokenizer.model")) {
    log_message(
        LogLevel::kWarning,
        fmt::format("{}: tokenizer.model cannot be read, only tokenizer.json; the model runs from token ids",
                    impl.path.string()));
  }
}

}  // namespace

void open_huggingface(CheckpointParts& impl) {
  const HfConfig config =
      in_context("config.json", [&] { return hf_config_from_json(read_text(impl.path / "config.json")); });
  impl.config = config.model;
  if (impl.config.name.empty()) {
    impl.config.name =
        std::filesystem::absolute(impl.path / "config.json").lexically_normal().parent_path().filename();
  }
  impl.safetensors = SafetensorsFile::open(impl.path);
  TensorTable table;
  for (const SafetensorsEntry& entry : impl.safetensors->tensors()) {
    table.add({entry.name, entry.dtype, entry.shape, entry.bytes});
  }
  settle_norms(impl.config, table);
  for (const TensorRole& role : tensor_roles(impl.config)) {
    if (role.kind == TensorKind::kLinear) {
      add_hf_linear(impl, role, table, config.quantization);
    } else {
      add_dense(impl, role, require_any(table, role));
    }
  }
  ignore_known_extras(impl.config, table);
  warn_unused(impl, table);
  open_tokenizer(impl);
  impl.bos_token = config.bos_token_id;
  std::vector<int32_t> stops = config.eos_token_ids;
  add_generation_stops(impl.path, stops);
  set_stop_tokens(impl, std::move(stops));
}

}  // namespace bitnet
