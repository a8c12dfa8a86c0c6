#include "bitnet/core/error.h"
#include "bitnet/io/gguf.h"
#include "bitnet/model/config.h"
#include "bitnet/quant/block_formats.h"
#include "model/config_rules.h"

#include <cmath>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// Metadata under the architecture's prefix.
class ArchKeys {
 public:
  ArchKeys(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  [[nodiscard]] std::string key(std::string_view name) const {
    return fmt::format("{}.{}", architecture_, name);
  }
  [[nodiscard]] std::optional<int64_t> integer(std::string_view name) const {
    return file_.get_integer(key(name));
  }
  [[nodiscard]] std::optional<double> real(std::string_view name) const { return file_.get_real(key(name)); }
  [[nodiscard]] std::optional<std::string_view> string(std::string_view name) const {
    return file_.get_string(key(name));
  }
  [[nodiscard]] int64_t required(std::string_view name) const {
    if (const auto value = integer(name)) return *value;
    throw Error(ErrorCode::kCorruptData, fmt::format("the metadata lacks '{}'", key(name)),
                "the file is incomplete; convert the model again");
  }

 private:
  const GgufFile& file_;
  std::string architecture_;
};

int64_t read_vocab_size(const GgufFile& file, const ArchKeys& keys) {
  if (const auto stored = keys.integer("vocab_size")) return *stored;
  if (const GgufTensor* embedding = file.find_tensor("token_embd.weight")) {
    if (embedding->shape.size() == 2) return embedding->shape[0];
  }
  const auto* tokens = file.get_strings("tokenizer.ggml.tokens");
  return tokens == nullptr ? 0 : static_cast<int64_t>(tokens->size());
}

void read_head_dim(const ArchKeys& keys, ModelConfig& config) {
  if (config.num_heads < 1) {
    throw Error(ErrorCode::kCorruptData, fmt::format("{} must be positive, found {}",
                                                     keys.key("attention.head_count"), config.num_heads));
  }
  config.head_dim = keys.integer("attention.key_length").value_or(config.hidden_size / config.num_heads);
  const int64_t value_length = keys.integer("attention.value_length").value_or(config.head_dim);
  if (value_length != config.head_dim) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("attention heads of {} for keys and {} for values are not supported",
                            config.head_dim, value_length));
  }
  const int64_t rotated = keys.integer("rope.dimension_count").value_or(config.head_dim);
  if (rotated != config.head_dim) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("partial rotary embedding is not supported: {} is {}, head_dim is {}",
                            keys.key("rope.dimension_count"), rotated, config.head_dim));
  }
}

bool read_llama3_keys(const GgufFile& file, RopeScaling& rope) {
  const auto factor = file.get_real("bitnet.rope.llama3.factor");
  if (!factor) return false;
  rope.type = RopeScaling::Type::kLlama3;
  rope.factor = *factor;
  rope.low_freq_factor = file.get_real("bitnet.rope.llama3.low_freq_factor").value_or(rope.low_freq_factor);
  rope.high_freq_factor =
      file.get_real("bitnet.rope.llama3.high_freq_factor").value_or(rope.high_freq_factor);
  rope.original_max_position =
      file.get_integer("bitnet.rope.llama3.original_context_length").value_or(rope.original_max_position);
  return true;
}

void read_rope(const GgufFile& file, const ArchKeys& keys, ModelConfig& config) {
  config.rope_theta = keys.real("rope.freq_base").value_or(config.rope_theta);
  const std::string_view type = keys.string("rope.scaling.type").value_or("none");
  const double factor =
      keys.real("rope.scaling.factor").value_or(keys.real("rope.scale_linear").value_or(1.0));
  if (type != "none" && type != "linear") {
    throw Error(ErrorCode::kUnsupported, fmt::format("RoPE scaling '{}' is not one of none, linear", type));
  }
  if (factor != 1.0 || type == "linear") {
    config.rope_scaling.type = RopeScaling::Type::kLinear;
    config.rope_scaling.factor = factor;
  }
  // Our files hold the Llama 3 rule itself too; the tensor is then for other engines.
  if (read_llama3_keys(file, config.rope_scaling)) return;
  const GgufTensor* factors = file.find_tensor("rope_freqs.weight");
  if (factors == nullptr) return;
  if (factors->dtype != DType::kF32 || factors->shape.size() != 1) {
    throw Error(ErrorCode::kCorruptData, fmt::format("rope_freqs.weight must be an f32 vector, found {} {}",
                                                     to_string(factors->dtype), to_string(factors->shape)));
  }
  config.rope_factors.resize(static_cast<size_t>(factors->shape[0]));
  dequantize_row(DType::kF32, factors->bytes, config.rope_factors);
}

bool any_tensor_ends_with(const GgufFile& file, std::string_view suffix) {
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with(suffix)) return true;
  }
  return false;
}

void refuse_what_changes_the_model(const GgufFile& file, const ArchKeys& keys) {
  if (const int64_t experts = keys.integer("expert_count").value_or(0); experts > 0) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("mixtures of experts ({} experts) are not supported", experts));
  }
  if (const int64_t parts = file.get_integer("split.count").value_or(1); parts > 1) {
    throw Error(ErrorCode::kUnsupported, fmt::format("the model is split into {} GGUF files", parts),
                "merge the parts into one file first (llama-gguf-split --merge)");
  }
}

}  // namespace

ModelConfig config_from_gguf(const GgufFile& file) {
  const auto architecture = file.get_string("general.architecture");
  if (!architecture) {
    throw Error(ErrorCode::kCorruptData, "the metadata lacks 'general.architecture'",
                "the file is not a model");
  }
  const ArchitectureDefaults& defaults = architecture_defaults(*architecture);
  const ArchKeys keys(file, std::string(*architecture));
  refuse_what_changes_the_model(file, keys);

  ModelConfig config;
  config.architecture = *architecture;
  config.name = file.get_string("general.name").value_or("");
  config.vocab_size = read_vocab_size(file, keys);
  config.hidden_size = keys.required("embedding_length");
  config.intermediate_size = keys.required("feed_forward_length");
  config.num_layers = keys.required("block_count");
  config.max_position = keys.required("context_length");
  config.num_heads = keys.required("attention.head_count");
  config.num_kv_heads = keys.integer("attention.head_count_kv").value_or(config.num_heads);
  read_head_dim(keys, config);
  config.rms_norm_eps = static_cast<float>(keys.real("attention.layer_norm_rms_epsilon").value_or(1e-5));
  read_rope(file, keys, config);

  const auto activation = file.get_string("bitnet.hidden_act");
  config.activation = activation ? activation_from_name(*activation) : defaults.activation;
  // The tensors decide; without any, what the architecture promises stands and is checked later.
  config.sub_norms = file.get_bool("bitnet.use_sub_norm").value_or(defaults.sub_norms) ||
                     any_tensor_ends_with(file, "_sub_norm.weight");
  config.projection_norms = any_tensor_ends_with(file, "_norm_in.weight");
  config.projection_norm_eps =
      static_cast<float>(file.get_real("bitnet.projection_norm_epsilon")
                             .value_or(static_cast<double>(config.projection_norm_eps)));
  config.tied_head = file.find_tensor("output.weight") == nullptr;
  config.validate();
  return config;
}

void add_config_to_gguf(const ModelConfig& config, GgufWriter& writer) {
  const ArchitectureDefaults& defaults = architecture_defaults(config.architecture);
  const auto add = [&](std::string_view name, const GgufValue& value) {
    writer.add(fmt::format("{}.{}", config.architecture, name), value);
  };
  const auto u32 = [](int64_t value) { return GgufValue::u32(static_cast<uint32_t>(value)); };
  writer.add("general.architecture", GgufValue::string(config.architecture));
  if (!config.name.empty()) writer.add("general.name", GgufValue::string(config.name));
  add("vocab_size", u32(config.vocab_size));
  add("context_length", u32(config.max_position));
  add("embedding_length", u32(config.hidden_size));
  add("block_count", u32(config.num_layers));
  add("feed_forward_length", u32(config.intermediate_size));
  add("rope.dimension_count", u32(config.head_dim));
  add("attention.head_count", u32(config.num_heads));
  add("attention.head_count_kv", u32(config.num_kv_heads));
  add("attention.key_length", u32(config.head_dim));
  add("attention.value_length", u32(config.head_dim));
  add("attention.layer_norm_rms_epsilon", GgufValue::f32(config.rms_norm_eps));
  add("rope.freq_base", GgufValue::f32(static_cast<float>(config.rope_theta)));
  const RopeScaling& rope = config.rope_scaling;
  if (rope.type == RopeScaling::Type::kLinear) {
    add("rope.scaling.type", GgufValue::string("linear"));
    add("rope.scaling.factor", GgufValue::f32(static_cast<float>(rope.factor)));
  } else if (rope.type == RopeScaling::Type::kLlama3) {
    const auto real = [](double value) { return GgufValue::f32(static_cast<float>(value)); };
    writer.add("bitnet.rope.llama3.factor", real(rope.factor));
    writer.add("bitnet.rope.llama3.low_freq_factor", real(rope.low_freq_factor));
    writer.add("bitnet.rope.llama3.high_freq_factor", real(rope.high_freq_factor));
    writer.add("bitnet.rope.llama3.original_context_length", u32(rope.original_max_position));
  }
  if (config.activation != defaults.activation) {
    writer.add("bitnet.hidden_act", GgufValue::string(std::string(to_string(config.activation))));
  }
  if (config.sub_norms != defaults.sub_norms)
    writer.add("bitnet.use_sub_norm", GgufValue::boolean(config.sub_norms));
  if (config.projection_norms) {
    writer.add("bitnet.projection_norm_epsilon", GgufValue::f32(config.projection_norm_eps));
  }
}

}  // namespace bitnet
