#include "bitnet/io/gguf.h"
#include "bitnet/model/config.h"
#include "model/config_rules.h"
#include "small_model.h"
#include "temporary_folder.h"

#include <cmath>
#include <numbers>

namespace bitnet {
namespace {

using testing::error_of;
using testing::small_config;
using testing::small_llama_config;
using testing::TemporaryFolder;

ModelConfig through_file(const ModelConfig& config, const std::function<void(GgufWriter&)>& more = {}) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.gguf";
  GgufWriter writer(path);
  add_config_to_gguf(config, writer);
  if (more) more(writer);
  writer.begin();
  writer.finish();
  return config_from_gguf(GgufFile::open(path));
}

TEST(GgufConfig, ComesBackFromAFile) {
  ModelConfig config = small_config();
  config.rms_norm_eps = 1e-6f;
  config.rope_theta = 1000042;
  const ModelConfig again = through_file(config);
  EXPECT_EQ(again.architecture, "bitnet-b1.58");
  EXPECT_EQ(again.name, "small");
  EXPECT_EQ(again.vocab_size, config.vocab_size);
  EXPECT_EQ(again.hidden_size, config.hidden_size);
  EXPECT_EQ(again.intermediate_size, config.intermediate_size);
  EXPECT_EQ(again.num_layers, config.num_layers);
  EXPECT_EQ(again.num_heads, config.num_heads);
  EXPECT_EQ(again.num_kv_heads, config.num_kv_heads);
  EXPECT_EQ(again.head_dim, config.head_dim);
  EXPECT_EQ(again.max_position, config.max_position);
  EXPECT_EQ(again.rms_norm_eps, config.rms_norm_eps);
  EXPECT_EQ(again.rope_theta, config.rope_theta);
  EXPECT_EQ(again.activation, Activation::kRelu2);
  EXPECT_TRUE(again.sub_norms);
}

TEST(GgufConfig, KnowsWhatEachArchitectureComputes) {
  for (const auto& [architecture, activation, sub_norms] :
       {std::tuple{"bitnet-b1.58", Activation::kRelu2, true},
        std::tuple{"bitnet-25", Activation::kRelu2, true}, std::tuple{"bitnet", Activation::kSilu, true},
        std::tuple{"llama", Activation::kSilu, false}}) {
    ModelConfig config = small_config();
    config.architecture = architecture;
    config.activation = activation;
    config.sub_norms = sub_norms;
    const ModelConfig again = through_file(config);
    EXPECT_EQ(again.activation, activation) << architecture;
    EXPECT_EQ(again.sub_norms, sub_norms) << architecture;
  }
}

TEST(GgufConfig, SaysItWhereTheArchitectureImpliesSomethingElse) {
  ModelConfig config = small_config();
  config.activation = Activation::kSilu;
  config.sub_norms = false;
  const ModelConfig again = through_file(config);
  EXPECT_EQ(again.activation, Activation::kSilu);
  EXPECT_FALSE(again.sub_norms);
}

TEST(GgufConfig, KeepsRopeScaling) {
  ModelConfig config = small_llama_config();
  config.rope_scaling = {RopeScaling::Type::kLlama3, 8.0, 1.0, 4.0, 8192};
  ModelConfig again = through_file(config);
  EXPECT_EQ(again.rope_scaling.type, RopeScaling::Type::kLlama3);
  EXPECT_EQ(again.rope_scaling.factor, 8.0);
  EXPECT_EQ(again.rope_scaling.original_max_position, 8192);
  config.rope_scaling = {.type = RopeScaling::Type::kLinear, .factor = 2.0};
  again = through_file(config);
  EXPECT_EQ(again.rope_scaling.type, RopeScaling::Type::kLinear);
  EXPECT_EQ(again.rope_scaling.factor, 2.0);
}

TEST(GgufConfig, ReadsRopeFactors) {
  const TemporaryFolder folder;
  ModelConfig config = small_config();
  GgufWriter writer(folder.path() / "a.gguf");
  add_config_to_gguf(config, writer);
  writer.add_tensor("rope_freqs.weight", DType::kF32, {16});
  writer.begin();
  const std::vector<float> factors(16, 1.5f);
  writer.write(std::as_bytes(std::span(factors)));
  writer.finish();
  EXPECT_EQ(config_from_gguf(GgufFile::open(folder.path() / "a.gguf")).rope_factors, factors);
}

TEST(GgufConfig, RefusesWhatItCannotCompute) {
  const auto code_with = [](const std::function<void(GgufWriter&)>& more) {
    return error_of([&] { (void)through_file(small_llama_config(), more); }).code();
  };
  EXPECT_EQ(code_with([](GgufWriter& w) { w.add("llama.rope.scaling.type", GgufValue::string("yarn")); }),
            ErrorCode::kUnsupported);
  EXPECT_EQ(code_with([](GgufWriter& w) { w.add("llama.expert_count", GgufValue::u32(8)); }),
            ErrorCode::kUnsupported);
  EXPECT_EQ(code_with([](GgufWriter& w) { w.add("split.count", GgufValue::u32(2)); }),
            ErrorCode::kUnsupported);
  EXPECT_EQ(code_with([](GgufWriter& w) { w.add("bitnet.hidden_act", GgufValue::string("gelu")); }),
            ErrorCode::kUnsupported);
}

/// Bare files, so that keys can be left out or be absurd.
ErrorCode code_of_file(const std::vector<std::pair<std::string, GgufValue>>& metadata) {
  const TemporaryFolder folder;
  GgufWriter writer(folder.path() / "a.gguf");
  for (const auto& [key, value] : metadata) writer.add(key, value);
  writer.begin();
  writer.finish();
  return error_of([&] { (void)config_from_gguf(GgufFile::open(folder.path() / "a.gguf")); }).code();
}

std::vector<std::pair<std::string, GgufValue>> plain_metadata() {
  return {{"general.architecture", GgufValue::string("bitnet")},
          {"bitnet.vocab_size", GgufValue::u32(96)},
          {"bitnet.context_length", GgufValue::u32(64)},
          {"bitnet.embedding_length", GgufValue::u32(128)},
          {"bitnet.block_count", GgufValue::u32(2)},
          {"bitnet.feed_forward_length", GgufValue::u32(256)},
          {"bitnet.attention.head_count", GgufValue::u32(4)}};
}

TEST(GgufConfig, RefusesMissingAndAbsurdKeys) {
  for (size_t i = 0; i < plain_metadata().size(); ++i) {
    auto metadata = plain_metadata();
    SCOPED_TRACE(metadata[i].first);
    metadata[i].second = GgufValue::u32(0);
    EXPECT_EQ(code_of_file(metadata), ErrorCode::kCorruptData);
    metadata[i].second = GgufValue::u32(0xffffffff);
    EXPECT_EQ(code_of_file(metadata), ErrorCode::kCorruptData);
    metadata.erase(metadata.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_EQ(code_of_file(metadata), ErrorCode::kCorruptData);
  }
  auto metadata = plain_metadata();
  metadata[0].second = GgufValue::string("qwen3");
  EXPECT_EQ(code_of_file(metadata), ErrorCode::kUnsupported);
  metadata = plain_metadata();
  metadata.emplace_back("bitnet.rope.dimension_count", GgufValue::u32(16));
  EXPECT_EQ(code_of_file(metadata), ErrorCode::kUnsupported);
}

TEST(RopeFactors, FollowTheRuleOfLlama3) {
  ModelConfig config = small_llama_config();
  config.head_dim = 128;
  config.rope_theta = 500000;
  config.rope_scaling = {RopeScaling::Type::kLlama3, 8.0, 1.0, 4.0, 8192};
  const std::vector<float> factors = llama3_rope_factors(config);
  ASSERT_EQ(factors.size(), 64u);
  EXPECT_EQ(factors.front(), 1.0f);  // short waves stay
  EXPECT_EQ(factors.back(), 8.0f);   // long waves are stretched
  for (size_t i = 1; i < factors.size(); ++i) EXPECT_GE(factors[i], factors[i - 1]);
  // One in between, by the formula: index 30 has the wavelength 2 pi 500000^(60/128).
  const double wavelength = 2 * std::numbers::pi * std::pow(500000.0, 60.0 / 128.0);
  const double smooth = (8192 / wavelength - 1) / 3;
  const double expected = smooth >= 1 ? 1.0 : smooth <= 0 ? 8.0 : 1 / ((1 - smooth) / 8 + smooth);
  EXPECT_NEAR(factors[30], expected, 1e-6);
}

}  // namespace
}  // namespace bitnet
