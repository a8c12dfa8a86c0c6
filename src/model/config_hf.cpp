#include "bitnet/core/error.h"
#include "bitnet/model/config.h"
#include "model/config_rules.h"
#include "model/json_object.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace bitnet {
namespace {

[[noreturn]] void unsupported(std::string message,
                              std::string hint = "see docs/MODELS.md for the supported models") {
  throw Error(ErrorCode::kUnsupported, std::move(message), std::move(hint));
}

/// Values that the model's class in transformers takes where config.json is silent.
struct ClassDefaults {
  std::string_view activation;
  double rope_theta;
  double rms_norm_eps;
};
constexpr ClassDefaults kBitNetClass = {"relu2", 500000.0, 1e-5};
constexpr ClassDefaults kLlamaClass = {"silu", 10000.0, 1e-6};
constexpr int64_t kDefaultMaxPosition = 2048;  // of both classes

bool contains(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// "bitnet-b1.58", "bitnet" or "llama". 1bitLLM's own class is written with a small n and says weight_bits.
std::string detect_architecture(const JsonObject& top, const ClassDefaults*& defaults) {
  const std::string type = top.string("model_type").value_or("");
  if (type != "bitnet" && type != "llama") {
    unsupported(fmt::format("model_type '{}' is not one of bitnet, llama", type));
  }
  defaults = type == "bitnet" ? &kBitNetClass : &kLlamaClass;
  const int64_t weight_bits = top.integer("weight_bits").value_or(0);
  if (contains(top.strings("architectures"), "BitnetForCausalLM") || weight_bits != 0) {
    if (weight_bits > 1)
      unsupported(fmt::format("weights of {} bits are not ternary (weight_bits must be 1)", weight_bits));
    if (const int64_t bits = top.integer("input_bits").value_or(8); bits != 8) {
      unsupported(fmt::format("activations of {} bits are not supported (input_bits must be 8)", bits));
    }
    defaults = &kLlamaClass;
    return "bitnet";
  }
  if (type == "llama") return "llama";
  // BitNetForCausalLM with SiLU computes what GGUF calls "bitnet".
  return top.string("hidden_act").value_or("relu2") == "silu" ? "bitnet" : "bitnet-b1.58";
}

void read_rope_object(const JsonObject& rope, ModelConfig& model) {
  const std::string type = rope.string("rope_type").value_or(rope.string("type").value_or("default"));
  model.rope_theta = rope.real("rope_theta").value_or(model.rope_theta);
  if (rope.real("partial_rotary_factor").value_or(1.0) != 1.0)
    unsupported("partial rotary embedding is not supported");
  RopeScaling& scaling = model.rope_scaling;
  scaling = RopeScaling{};
  model.rope_factors.clear();
  if (type == "default") return;
  if (type == "factors") {  // ours: the content of a GGUF's rope_freqs.weight
    for (const double factor : rope.reals("factors"))
      model.rope_factors.push_back(static_cast<float>(factor));
    return;
  }
  if (type == "linear") {
    scaling.type = RopeScaling::Type::kLinear;
  } else if (type == "llama3") {
    scaling.type = RopeScaling::Type::kLlama3;
    scaling.low_freq_factor = rope.real("low_freq_factor").value_or(scaling.low_freq_factor);
    scaling.high_freq_factor = rope.real("high_freq_factor").value_or(scaling.high_freq_factor);
    scaling.original_max_position =
        rope.integer("original_max_position_embeddings").value_or(scaling.original_max_position);
  } else {
    unsupported(fmt::format("RoPE type '{}' is not one of default, linear, llama3", type));
  }
  const auto factor = rope.real("factor");
  if (!factor) throw Error(ErrorCode::kCorruptData, fmt::format("RoPE type '{}' needs a 'factor'", type));
  scaling.factor = *factor;
}

void read_rope(const JsonObject& top, const ClassDefaults& defaults, ModelConfig& model) {
  model.rope_theta = top.real("rope_theta").value_or(defaults.rope_theta);
  if (top.real("partial_rotary_factor").value_or(1.0) != 1.0)
    unsupported("partial rotary embedding is not supported");
  // transformers 4 and 5; where both stand, the newer one holds.
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (const auto rope = top.object(key)) read_rope_object(*rope, model);
  }
}

void read_dimensions(const JsonObject& top, ModelConfig& model) {
  model.vocab_size = top.required_integer("vocab_size");
  model.hidden_size = top.required_integer("hidden_size");
  model.intermediate_size = top.required_integer("intermediate_size");
  model.num_layers = top.required_integer("num_hidden_layers");
  model.num_heads = top.required_integer("num_attention_heads");
  model.num_kv_heads = top.integer("num_key_value_heads").value_or(model.num_heads);
  model.max_position = top.integer("max_position_embeddings").value_or(kDefaultMaxPosition);
  if (const auto head_dim = top.integer("head_dim")) {
    model.head_dim = *head_dim;
  } else if (model.num_heads > 0 && model.hidden_size % model.num_heads == 0) {
    model.head_dim = model.hidden_size / model.num_heads;
  } else {
    throw Error(
        ErrorCode::kCorruptData,
        fmt::format(
            "without 'head_dim', hidden_size must be a multiple of num_attention_heads, found {} and {}",
            model.hidden_size, model.num_heads));
  }
}

void read_quantization(const JsonObject& top, HfConfig& config) {
  HfQuantization& quantization = config.quantization;
  if (const auto bits = top.integer("weight_bits")) {
    quantization.declared = true;  // 1bitLLM: always master weights
    quantization.offline = false;
  }
  const auto section = top.object("quantization_config");
  if (!section) return;
  const std::string method = section->string("quant_method").value_or("");
  if (method != "bitnet") {
    unsupported(fmt::format("quantization method '{}' is not supported, only bitnet", method));
  }
  quantization = HfQuantization{};
  quantization.declared = true;
  const std::string linear_class = section->string("linear_class").value_or("bitlinear");
  if (linear_class == "autobitlinear") {
    quantization.linear_class = HfQuantization::LinearClass::kAutoBitLinear;
  } else if (linear_class != "bitlinear") {
    unsupported(fmt::format("linear_class '{}' is not one of bitlinear, autobitlinear", linear_class));
  }
  const std::string mode = section->string("quantization_mode").value_or("offline");
  if (mode != "offline" && mode != "online") {
    unsupported(fmt::format("quantization_mode '{}' is not one of offline, online", mode));
  }
  quantization.offline = mode == "offline";
  config.model.projection_norms = section->boolean("use_rms_norm").value_or(false);
  config.model.projection_norm_eps = static_cast<float>(section->real("rms_norm_eps").value_or(1e-6));
}

void refuse_biases(const JsonObject& top) {
  for (const std::string_view key : {"attention_bias", "mlp_bias"}) {
    if (top.boolean(key).value_or(false))
      unsupported(fmt::format("'{}' is true: linear layers with a bias are not supported", key));
  }
}

/// The shortest decimal that is this float: 1e-05, not 9.99999974737875e-06.
double shortest(float value) {
  const std::string text = fmt::format("{}", value);
  double result = 0;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

nlohmann::json rope_to_json(const ModelConfig& model) {
  nlohmann::json rope = {{"rope_type", "default"}, {"rope_theta", model.rope_theta}};
  const RopeScaling& scaling = model.rope_scaling;
  if (!model.rope_factors.empty()) {
    rope["rope_type"] = "factors";
    rope["factors"] = model.rope_factors;
  } else if (scaling.type == RopeScaling::Type::kLinear) {
    rope["rope_type"] = "linear";
    rope["factor"] = scaling.factor;
  } else if (scaling.type == RopeScaling::Type::kLlama3) {
    rope["rope_type"] = "llama3";
    rope["factor"] = scaling.factor;
    rope["low_freq_factor"] = scaling.low_freq_factor;
    rope["high_freq_factor"] = scaling.high_freq_factor;
    rope["original_max_position_embeddings"] = scaling.original_max_position;
  }
  return rope;
}

nlohmann::json quantization_to_json(const HfConfig& config) {
  const bool automatic = config.quantization.linear_class == HfQuantization::LinearClass::kAutoBitLinear;
  nlohmann::json section = {{"quant_method", "bitnet"},
                            {"linear_class", automatic ? "autobitlinear" : "bitlinear"},
                            {"quantization_mode", config.quantization.offline ? "offline" : "online"},
                            {"modules_to_not_convert", {"lm_head"}}};
  if (config.model.projection_norms) {
    section["use_rms_norm"] = true;
    section["rms_norm_eps"] = shortest(config.model.projection_norm_eps);
  }
  return section;
}

}  // namespace

HfConfig hf_config_from_json(std::string_view text) {
  const nlohmann::json parsed = JsonObject::parse(text);
  const JsonObject top(parsed, "");
  HfConfig config;
  ModelConfig& model = config.model;
  const ClassDefaults* defaults = nullptr;
  model.architecture = detect_architecture(top, defaults);
  refuse_biases(top);
  model.name = top.string("_name_or_path").value_or("");
  read_dimensions(top, model);
  read_rope(top, *defaults, model);
  model.rms_norm_eps = static_cast<float>(top.real("rms_norm_eps").value_or(defaults->rms_norm_eps));
  model.activation =
      activation_from_name(top.string("hidden_act").value_or(std::string(defaults->activation)));
  model.tied_head = top.boolean("tie_word_embeddings").value_or(false);
  model.sub_norms = top.boolean("use_sub_norm").value_or(architecture_defaults(model.architecture).sub_norms);
  read_quantization(top, config);
  config.eos_token_ids = top.token_ids("eos_token_id");
  config.torch_dtype = top.string("torch_dtype").value_or(top.string("dtype").value_or(""));
  const std::vector<int32_t> bos = top.token_ids("bos_token_id");
  if (!bos.empty()) config.bos_token_id = bos.front();
  model.validate();
  return config;
}

std::string hf_config_to_json(const HfConfig& config) {
  const ModelConfig& model = config.model;
  model.validate();
  const bool llama = model.architecture == "llama";
  nlohmann::ordered_json json;
  json["architectures"] = {llama ? "LlamaForCausalLM" : "BitNetForCausalLM"};
  json["model_type"] = llama ? "llama" : "bitnet";
  if (!model.name.empty()) json["_name_or_path"] = model.name;
  json["vocab_size"] = model.vocab_size;
  json["hidden_size"] = model.hidden_size;
  json["intermediate_size"] = model.intermediate_size;
  json["num_hidden_layers"] = model.num_layers;
  json["num_attention_heads"] = model.num_heads;
  json["num_key_value_heads"] = model.num_kv_heads;
  json["head_dim"] = model.head_dim;
  json["max_position_embeddings"] = model.max_position;
  json["hidden_act"] = to_string(model.activation);
  json["rms_norm_eps"] = shortest(model.rms_norm_eps);
  json["tie_word_embeddings"] = model.tied_head;
  json["attention_bias"] = false;
  if (model.sub_norms != architecture_defaults(model.architecture).sub_norms)
    json["use_sub_norm"] = model.sub_norms;
  json["rope_theta"] = model.rope_theta;
  const nlohmann::json rope = rope_to_json(model);
  json["rope_parameters"] = rope;
  if (rope["rope_type"] != "default") json["rope_scaling"] = rope;
  if (!config.torch_dtype.empty()) json["torch_dtype"] = config.torch_dtype;
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_ids.size() == 1) json["eos_token_id"] = config.eos_token_ids.front();
  if (config.eos_token_ids.size() > 1) json["eos_token_id"] = config.eos_token_ids;
  if (config.quantization.declared) json["quantization_config"] = quantization_to_json(config);
  return json.dump(1) + "\n";
}

}  // namespace bitnet
