#include "bitnet/model/precision_policy.h"

#include "bitnet/core/error.h"

#include <fstream>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto kConservative = PrecisionStrategy::kConservative, kBalanced = PrecisionStrategy::kBalanced,
               kAggressive = PrecisionStrategy::kAggressive;

/// One row of the specification's tables, in words.
template <class Part, class Precision>
std::string row(Part part, Precision&& precision) {
  std::string text(to_string(part));
  for (const auto strategy : {kConservative, kBalanced, kAggressive}) {
    text += ' ';
    text += to_string(precision(part, strategy));
  }
  return text;
}

TEST(PrecisionTables, AreTheSpecifications) {
  std::string layers, components;
  for (int i = 0; i <= static_cast<int>(LayerType::kOther); ++i) {
    layers += row(static_cast<LayerType>(i), layer_precision) + "\n";
  }
  for (int i = 0; i <= static_cast<int>(ModelComponent::kKvCache); ++i) {
    components += row(static_cast<ModelComponent>(i), component_precision) + "\n";
  }
  EXPECT_EQ(layers,
            "linear qint8 ternary ternary\n"
            "convolution qint8 ternary ternary\n"
            "attention f16 qint8 qint8\n"
            "embedding f16 f16 qint8\n"
            "norm f32 f16 f16\n"
            "activation f16 qint8 qint4\n"
            "output f16 f16 qint8\n"
            "other f32 f16 qint8\n");
  EXPECT_EQ(components,
            "weights qint8 ternary ternary\n"
            "bias f16 f16 qint8\n"
            "activations f16 qint8 qint4\n"
            "gradients f32 f16 f16\n"
            "intermediate f16 f16 qint8\n"
            "attention_scores f32 f16 f16\n"
            "kv_cache qint8 qint8 qint4\n");
}

TEST(PrecisionPlan, ClassifiesNamesOfBothContainers) {
  const auto layer = [](std::string_view name) { return classify_tensor(name).first; };
  EXPECT_EQ(layer("token_embd.weight"), LayerType::kEmbedding);
  EXPECT_EQ(layer("model.embed_tokens.weight"), LayerType::kEmbedding);
  EXPECT_EQ(layer("output.weight"), LayerType::kOutput);
  EXPECT_EQ(layer("lm_head.weight"), LayerType::kOutput);
  EXPECT_EQ(layer("output_norm.weight"), LayerType::kNorm);
  EXPECT_EQ(layer("model.norm.weight"), LayerType::kNorm);
  EXPECT_EQ(layer("blk.3.attn_norm.weight"), LayerType::kNorm);
  EXPECT_EQ(layer("model.layers.3.self_attn.inner_attn_ln.weight"), LayerType::kNorm);
  EXPECT_EQ(layer("model.layers.3.self_attn.q_proj.rms_norm.weight"), LayerType::kNorm);
  EXPECT_EQ(layer("model.layers.3.post_attention_layernorm.weight"), LayerType::kNorm);
  EXPECT_EQ(layer("blk.3.attn_q.weight"), LayerType::kAttention);
  EXPECT_EQ(layer("model.layers.3.self_attn.o_proj.weight"), LayerType::kAttention);
  EXPECT_EQ(layer("blk.3.ffn_down.weight"), LayerType::kLinear);
  EXPECT_EQ(layer("model.layers.3.mlp.gate_proj.weight"), LayerType::kLinear);
  EXPECT_EQ(layer("encoder.conv1.weight"), LayerType::kConvolution);
  EXPECT_EQ(layer("rope_freqs"), LayerType::kOther);
  EXPECT_EQ(layer(""), LayerType::kOther);
  EXPECT_EQ(classify_tensor("model.layers.3.mlp.gate_proj.bias").second, ModelComponent::kBias);
}

PlannedTensor plan_one(const PrecisionPolicy& policy, StoredTensor tensor) {
  tensor.bytes = storage_bytes(tensor.dtype, tensor.shape);
  return plan_precision(policy, std::array{tensor}).tensors.at(0);
}

TEST(PrecisionPlan, CountsElementsAndScales) {
  const auto bytes = [](PrecisionStrategy strategy, std::string name) {
    return plan_one({"", strategy, {}}, {std::move(name), DType::kF32, {3, 5}}).bytes;
  };
  EXPECT_EQ(bytes(kBalanced, "ffn_up.weight"), 4 + 4);        // 15 trits in 4 bytes, one scale
  EXPECT_EQ(bytes(kConservative, "ffn_up.weight"), 15 + 12);  // a byte each, a scale for each row
  EXPECT_EQ(bytes(kAggressive, "prelu.weight"), 8 + 12);      // 15 nibbles in 8 bytes
  EXPECT_EQ(bytes(kConservative, "attn_q.weight"), 30);
  EXPECT_EQ(bytes(kConservative, "norm.weight"), 60);
  EXPECT_EQ(plan_one({"", kBalanced, {}}, {"ffn_up.weight", DType::kF32, {0, 5}}).bytes, 4);
  EXPECT_EQ(plan_one({"", kAggressive, {}}, {"x", DType::kF32, {}}).bytes, 5);
}

TEST(PrecisionPlan, BiasesGoByComponent) {
  const PlannedTensor bias = plan_one({"", kBalanced, {}}, {"mlp.fc.bias", DType::kF32, {8}});
  EXPECT_EQ(bias.dtype, DType::kF16);  // a linear layer's weights would be ternary
  EXPECT_EQ(bias.component, ModelComponent::kBias);
}

TEST(PrecisionPlan, NeverWidensAndSaysWhy) {
  const PrecisionPolicy policy{"", kBalanced, {}};
  const PlannedTensor ternary = plan_one(policy, {"blk.0.attn_q.weight", DType::kI2_S, {128, 128}});
  EXPECT_EQ(ternary.dtype, DType::kI2_S);
  EXPECT_EQ(ternary.bytes, ternary.stored.bytes);
  EXPECT_EQ(ternary.kept, "stored in no more bits");
  EXPECT_EQ(plan_one(policy, {"norm.weight", DType::kBF16, {8}}).kept, "stored in no more bits");
  EXPECT_EQ(plan_one(policy, {"position_ids", DType::kI64, {8}}).kept, "holds integers");
  EXPECT_EQ(plan_one(policy, {"mlp.up_proj.weight_scale", DType::kF32, {1}}).kept, "holds scales");
}

TEST(PrecisionPlan, ReadsPackedMatricesOfHuggingFaceAsTrits) {
  const std::array<StoredTensor, 3> tensors = {{{"mlp.up_proj.weight", DType::kU8, {2, 6}, 12},
                                                {"mlp.up_proj.weight_scale", DType::kBF16, {1}, 2},
                                                {"mlp.bytes", DType::kU8, {2, 6}, 12}}};
  const PrecisionPlan plan = plan_precision({"", kConservative, {}}, tensors);
  EXPECT_EQ(plan.tensors[0].stored.dtype, DType::kHfTernary);
  EXPECT_EQ(plan.tensors[0].stored.shape, (Shape{8, 6}));
  EXPECT_EQ(plan.tensors[2].kept, "holds integers");
  EXPECT_EQ(plan.bytes_now, 26);
  EXPECT_EQ(plan.bytes_then, 26);
}

TEST(PrecisionPlan, RefusesShapesThatNoFileHolds) {
  for (const Shape& shape : {Shape{-1, 4}, Shape{int64_t{1} << 40, 1 << 20}, Shape{INT64_MAX, INT64_MAX}}) {
    const StoredTensor tensor{"norm", DType::kF32, shape, 0};
    EXPECT_THROW((void)plan_precision({}, std::array{tensor}), Error);
  }
}

TEST(PrecisionRules, TheFirstThatHoldsDecides) {
  const PrecisionPolicy policy = precision_policy_from_json(R"({"base": "aggressive", "rules": [
    {"when": {"name": "blk.1.ffn_up.weight"}, "use": "keep"},
    {"when": {"name_prefix": "blk.1.", "layer": "linear"}, "use": "qint8"},
    {"when": {"name_suffix": "gate.weight", "max_elements": 64}, "use": "qint4"},
    {"when": {"name_contains": "ffn", "min_elements": 65}, "use": "bf16"},
    {"when": {"component": "kv_cache"}, "use": "qint8"},
    {"when": {"component": "gradients"}, "use": "keep"}]})");
  const auto planned = [&](std::string name, Shape shape) {
    const PlannedTensor plan = plan_one(policy, {std::move(name), DType::kF32, std::move(shape)});
    return std::pair(plan.rule.value_or(99), plan.dtype);
  };
  EXPECT_EQ(planned("blk.1.ffn_up.weight", {8, 8}), std::pair(size_t{0}, DType::kF32));
  EXPECT_EQ(planned("blk.1.ffn_gate.weight", {8, 8}), std::pair(size_t{1}, DType::kQInt8));
  EXPECT_EQ(planned("blk.2.ffn_gate.weight", {8, 8}), std::pair(size_t{2}, DType::kQInt4));
  EXPECT_EQ(planned("blk.2.ffn_gate.weight", {8, 9}), std::pair(size_t{3}, DType::kBF16));
  EXPECT_EQ(planned("blk.2.ffn_up.weight", {8, 8}), std::pair(size_t{99}, DType::kTernary));
  const PrecisionPlan plan = plan_precision(policy, {});
  ASSERT_EQ(plan.components.size(), 5u);
  EXPECT_EQ(plan.components[0].dtype, DType::kQInt4);  // activations: the table
  EXPECT_EQ(plan.components[1].dtype, std::nullopt);   // gradients: kept
  EXPECT_EQ(plan.components[1].rule, size_t{5});
  EXPECT_EQ(plan.components[4].dtype, DType::kQInt8);  // kv_cache: the rule
}

TEST(PrecisionRules, ARuleWithoutConditionsHoldsAlways) {
  const PrecisionPolicy policy = precision_policy_from_json(R"({"rules": [{"use": "f16"}]})");
  EXPECT_EQ(plan_one(policy, {"ffn_up", DType::kF32, {4}}).dtype, DType::kF16);
  EXPECT_EQ(plan_precision(policy, {}).components[4].dtype, DType::kF16);
}

TEST(PrecisionRules, EmptyPolicyIsBalanced) {
  const PrecisionPolicy policy = precision_policy_from_json("{}");
  EXPECT_EQ(policy.base, kBalanced);
  EXPECT_THAT(policy.rules, IsEmpty());
  EXPECT_FALSE(strategy_from_name("Balanced"));
  EXPECT_FALSE(strategy_from_name(""));
}

TEST(PrecisionRules, TheExampleInTheDocumentsIsValid) {
  std::ifstream file(std::string(BITNET_SOURCE_DIR) + "/docs/policies/embeddings_small.json");
  ASSERT_TRUE(file);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(precision_policy_from_json(text.str()).rules.size(), 3u);
}

struct Hostile {
  const char* text;
  ErrorCode code;
  const char* message;
  const char* hint;
};

TEST(PrecisionRules, HostilePoliciesAreErrorsThatNameTheRuleAndWhatIsAllowed) {
  constexpr auto kBad = ErrorCode::kCorruptData, kSetting = ErrorCode::kConfiguration;
  const Hostile cases[] = {
      {"", kBad, "not valid JSON", ""},
      {"[1]", kBad, "expected a JSON object", ""},
      {R"({"rule": []})", kSetting, "unknown key 'rule'", "name, base, rules"},
      {R"({"base": "bold"})", kSetting, "unknown base 'bold'", "conservative, balanced, aggressive"},
      {R"({"base": 3})", kBad, "'base' must be a string", ""},
      {R"({"rules": {}})", kBad, "'rules' must be a list", ""},
      {R"({"rules": [3]})", kBad, "expected a JSON object at rules[0].", ""},
      {R"({"rules": [{}]})", kSetting, "rules[0]: 'use' is missing", "keep"},
      {R"({"rules": [{"use": "f16"}, {"use": "int3"}]})", kSetting, "rules[1]: unknown format 'int3'",
       "keep, f32, f16, bf16, qint8, qint4, ternary"},
      {R"({"rules": [{"use": 16}]})", kBad, "rules[0].use' must be a string", ""},
      {R"({"rules": [{"use": "f16", "if": {}}]})", kSetting, "unknown key 'if'", "when, use"},
      {R"({"rules": [{"use": "f16", "when": []}]})", kBad, "rules[0].when' must be an object", ""},
      {R"({"rules": [{"use": "f16", "when": {"size": 3}}]})", kSetting, "unknown key 'size'", "min_elements"},
      {R"({"rules": [{"use": "f16", "when": {"layer": "mlp"}}]})", kSetting, "unknown layer 'mlp'",
       "linear, convolution"},
      {R"({"rules": [{"use": "f16", "when": {"component": "kv"}}]})", kSetting, "unknown component 'kv'",
       "kv_cache"},
      {R"({"rules": [{"use": "f16", "when": {"min_elements": -1}}]})", kSetting, "must not be negative", ""},
      {R"({"rules": [{"use": "f16", "when": {"min_elements": 1e30}}]})", kBad, "min_elements", ""},
      {R"({"rules": [{"use": "f16", "when": {"min_elements": 4, "max_elements": 3}}]})", kSetting,
       "no size is at least 4 and at most 3", ""},
  };
  for (const Hostile& hostile : cases) {
    try {
      (void)precision_policy_from_json(hostile.text);
      ADD_FAILURE() << hostile.text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), hostile.code) << hostile.text << ": " << error.what();
      EXPECT_THAT(error.what(), HasSubstr(hostile.message));
      EXPECT_THAT(error.hint(), HasSubstr(hostile.hint));
    }
  }
}

}  // namespace
}  // namespace bitnet
