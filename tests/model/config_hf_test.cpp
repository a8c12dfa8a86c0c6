#include "bitnet/model/config.h"
#include "small_model.h"

#include <nlohmann/json.hpp>

namespace bitnet {
namespace {

using nlohmann::json;
using testing::error_of;

json bitnet_json() {
  return {
      {"model_type", "bitnet"},
      {"architectures", {"BitNetForCausalLM"}},
      {"vocab_size", 128256},
      {"hidden_size", 2560},
      {"intermediate_size", 6912},
      {"num_hidden_layers", 30},
      {"num_attention_heads", 20},
      {"num_key_value_heads", 5},
      {"max_position_embeddings", 4096},
      {"rope_theta", 500000.0},
      {"tie_word_embeddings", true},
      {"bos_token_id", 128000},
      {"eos_token_id", 128001},
      {"quantization_config",
       {{"quant_method", "bitnet"}, {"linear_class", "autobitlinear"}, {"quantization_mode", "offline"}}}};
}

HfConfig parse(const json& value) {
  return hf_config_from_json(value.dump());
}

/// Parses the 2B-4T configuration with some keys replaced.
ErrorCode code_with(const json& patch) {
  json value = bitnet_json();
  value.merge_patch(patch);
  return error_of([&] { (void)parse(value); }).code();
}

TEST(HfConfig, ReadsTheModelOfTwoBillion) {
  const HfConfig config = parse(bitnet_json());
  const ModelConfig& model = config.model;
  EXPECT_EQ(model.architecture, "bitnet-b1.58");
  EXPECT_EQ(model.vocab_size, 128256);
  EXPECT_EQ(model.head_dim, 128);
  EXPECT_EQ(model.num_kv_heads, 5);
  EXPECT_EQ(model.activation, Activation::kRelu2);
  EXPECT_EQ(model.rms_norm_eps, 1e-5f);
  EXPECT_EQ(model.rope_theta, 500000.0);
  EXPECT_TRUE(model.tied_head);
  EXPECT_TRUE(model.sub_norms);
  EXPECT_EQ(config.quantization.linear_class, HfQuantization::LinearClass::kAutoBitLinear);
  EXPECT_TRUE(config.quantization.offline);
  EXPECT_EQ(config.bos_token_id, 128000);
  EXPECT_EQ(config.eos_token_ids, std::vector<int32_t>{128001});
}

TEST(HfConfig, TakesTheDefaultsOfTheClass) {
  json value = bitnet_json();
  for (const char* key :
       {"tie_word_embeddings", "max_position_embeddings", "rope_theta", "num_key_value_heads"}) {
    value.erase(key);
  }
  value["quantization_config"] = {{"quant_method", "bitnet"}};
  const HfConfig config = parse(value);
  EXPECT_FALSE(config.model.tied_head);
  EXPECT_EQ(config.model.max_position, 2048);
  EXPECT_EQ(config.model.rope_theta, 500000.0);
  EXPECT_EQ(config.model.num_kv_heads, 20);
  EXPECT_EQ(config.quantization.linear_class, HfQuantization::LinearClass::kBitLinear);
  EXPECT_TRUE(config.quantization.offline);
}

TEST(HfConfig, TellsTheModelsOfOneBitLlmByClassNameAndBits) {
  json value = bitnet_json();
  value.erase("quantization_config");
  value["model_type"] = "llama";
  value["architectures"] = {"BitnetForCausalLM"};
  value["weight_bits"] = 1;
  value["input_bits"] = 8;
  value["hidden_act"] = "silu";
  const HfConfig config = parse(value);
  EXPECT_EQ(config.model.architecture, "bitnet");
  EXPECT_EQ(config.model.activation, Activation::kSilu);
  EXPECT_TRUE(config.model.sub_norms);
  EXPECT_FALSE(config.quantization.offline);
  EXPECT_TRUE(config.quantization.declared);
  value["weight_bits"] = 2;
  EXPECT_EQ(error_of([&] { (void)parse(value); }).code(), ErrorCode::kUnsupported);
}

TEST(HfConfig, ReadsLlamaWithItsOwnHeadSize) {
  json value = bitnet_json();
  value.merge_patch(
      {{"model_type", "llama"}, {"head_dim", 256}, {"tie_word_embeddings", false}, {"rms_norm_eps", 1e-6}});
  const HfConfig config = parse(value);
  EXPECT_EQ(config.model.architecture, "llama");
  EXPECT_EQ(config.model.head_dim, 256);
  EXPECT_EQ(config.model.activation, Activation::kSilu);
  EXPECT_FALSE(config.model.sub_norms);
  EXPECT_EQ(config.model.rms_norm_eps, 1e-6f);
}

TEST(HfConfig, ReadsRopeFromEveryPlace) {
  json value = bitnet_json();
  value["rope_parameters"] = {{"rope_type", "linear"}, {"rope_theta", 10000.0}, {"factor", 4.0}};
  EXPECT_EQ(parse(value).model.rope_theta, 10000.0);
  EXPECT_EQ(parse(value).model.rope_scaling.type, RopeScaling::Type::kLinear);
  value.erase("rope_parameters");
  value["rope_scaling"] = {{"type", "llama3"},
                           {"factor", 8.0},
                           {"low_freq_factor", 1.0},
                           {"high_freq_factor", 4.0},
                           {"original_max_position_embeddings", 4096}};
  const ModelConfig model = parse(value).model;
  EXPECT_EQ(model.rope_theta, 500000.0);
  EXPECT_EQ(model.rope_scaling.type, RopeScaling::Type::kLlama3);
  EXPECT_EQ(model.rope_scaling.factor, 8.0);
  EXPECT_EQ(model.rope_scaling.original_max_position, 4096);
  value["rope_scaling"] = nullptr;
  EXPECT_EQ(parse(value).model.rope_scaling.type, RopeScaling::Type::kNone);
}

TEST(HfConfig, RefusesByNameWhatItCannotCompute) {
  const std::vector<json> patches = {
      {{"model_type", "qwen3"}},
      {{"hidden_act", "gelu"}},
      {{"attention_bias", true}},
      {{"mlp_bias", true}},
      {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2.0}}}},
      {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}}},
      {{"rope_parameters", {{"rope_type", "longrope"}, {"factor", 2.0}}}},
      {{"partial_rotary_factor", 0.5}},
      {{"quantization_config", {{"quant_method", "gptq"}}}},
      {{"quantization_config", {{"linear_class", "other"}}}},
      {{"quantization_config", {{"quantization_mode", "sometimes"}}}},
  };
  for (const json& patch : patches) {
    SCOPED_TRACE(patch.dump());
    EXPECT_EQ(code_with(patch), ErrorCode::kUnsupported);
  }
  json yarn = bitnet_json();
  yarn["rope_scaling"] = {{"rope_type", "yarn"}};
  EXPECT_NE(std::string(error_of([&] { (void)parse(yarn); }).what()).find("yarn"), std::string::npos);
}

TEST(HfConfig, RefusesAbsurdAndWronglyTypedValues) {
  const std::vector<json> patches = {
      {{"vocab_size", 0}},
      {{"vocab_size", -5}},
      {{"vocab_size", (int64_t{1} << 24) + 1}},
      {{"vocab_size", uint64_t{1} << 63}},
      {{"vocab_size", "many"}},
      {{"vocab_size", 12.5}},
      {{"vocab_size", nullptr}},
      {{"hidden_size", int64_t{1} << 40}},
      {{"num_hidden_layers", 4097}},
      {{"num_attention_heads", 0}},
      {{"num_attention_heads", 19}},
      {{"num_key_value_heads", 3}},
      {{"head_dim", 127}},
      {{"head_dim", 1 << 24}},
      {{"rms_norm_eps", 0.0}},
      {{"rms_norm_eps", "small"}},
      {{"rope_theta", -1.0}},
      {{"rope_theta", {1, 2}}},
      {{"rope_scaling", {{"rope_type", "linear"}}}},
      {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 0.0}}}},
      {{"rope_scaling",
        {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 4.0}, {"high_freq_factor", 4.0}}}},
      {{"rope_scaling", "linear"}},
      {{"eos_token_id", "stop"}},
      {{"eos_token_id", {1, "x"}}},
      {{"tie_word_embeddings", 1}},
      {{"quantization_config", 7}},
      {{"architectures", "BitNetForCausalLM"}},
  };
  for (const json& patch : patches) {
    SCOPED_TRACE(patch.dump());
    EXPECT_EQ(code_with(patch), ErrorCode::kCorruptData);
  }
  for (const char* text : {"", "{", "[]", "3", "{\"model_type\": NaN}", "{\"rope_theta\": 1e999}"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(error_of([&] { (void)hf_config_from_json(text); }).code(),
              text == std::string("{}") ? ErrorCode::kUnsupported : ErrorCode::kCorruptData);
  }
}

TEST(HfConfig, ReadsEosAsOneOrSeveral) {
  json value = bitnet_json();
  value["eos_token_id"] = {128001, 128009};
  EXPECT_EQ(parse(value).eos_token_ids, (std::vector<int32_t>{128001, 128009}));
  value["eos_token_id"] = nullptr;
  EXPECT_TRUE(parse(value).eos_token_ids.empty());
}

TEST(HfConfig, ComesBackFromItsOwnText) {
  HfConfig config = parse(bitnet_json());
  config.model.projection_norms = true;
  config.model.projection_norm_eps = 3e-6f;
  config.model.rope_scaling = {RopeScaling::Type::kLlama3, 32.0, 1.0, 4.0, 8192};
  config.eos_token_ids = {5, 6};
  config.torch_dtype = "bfloat16";
  const HfConfig again = hf_config_from_json(hf_config_to_json(config));
  EXPECT_EQ(again.model.rms_norm_eps, config.model.rms_norm_eps);
  EXPECT_TRUE(again.model.projection_norms);
  EXPECT_EQ(again.model.projection_norm_eps, 3e-6f);
  EXPECT_EQ(again.model.rope_scaling.type, RopeScaling::Type::kLlama3);
  EXPECT_EQ(again.model.rope_scaling.factor, 32.0);
  EXPECT_EQ(again.eos_token_ids, config.eos_token_ids);
  EXPECT_EQ(again.torch_dtype, "bfloat16");
  EXPECT_EQ(hf_config_to_json(again), hf_config_to_json(config));
}

TEST(HfConfig, KeepsRopeFactorsOfGgufFiles) {
  HfConfig config = parse(bitnet_json());
  config.model.rope_factors.assign(64, 2.5f);
  const HfConfig again = hf_config_from_json(hf_config_to_json(config));
  EXPECT_EQ(again.model.rope_factors, config.model.rope_factors);
}

}  // namespace
}  // namespace bitnet
