#include "bitnet/model/checkpoint.h"

#include "bitnet/core/log.h"
#include "bitnet/quant/ternary_formats.h"
#include "model/ternary_source.h"
#include "small_model.h"
#include "temporary_folder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>

namespace bitnet {
namespace {

using namespace bitnet::testing;
using LinearClass = HfQuantization::LinearClass;

TEST(Checkpoint, ReadsPackedWeightsWithBothMeaningsOfTheScale) {
  const SmallModel model(small_config());
  for (const LinearClass linear_class : {LinearClass::kAutoBitLinear, LinearClass::kBitLinear}) {
    const TemporaryFolder folder;
    write_folder(folder.path(), packed_config(model.config(), linear_class), model.hf_tensors(linear_class));
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    EXPECT_EQ(checkpoint.format(), Checkpoint::Format::kHuggingFace);
    EXPECT_EQ(checkpoint.config().architecture, "bitnet-b1.58");
    EXPECT_EQ(checkpoint.linear("blk.0.attn_q.weight").kind(), TernarySource::Kind::kPacked);
    expect_same_linears(checkpoint, model, linear_class == LinearClass::kAutoBitLinear ? 0.0f : 0x1p-22f);
  }
}

TEST(Checkpoint, DividesOnceByTheScaleOfBitLinear) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  auto tensors = model.hf_tensors(LinearClass::kBitLinear);
  tensors["model.layers.0.self_attn.q_proj.weight_scale"] = float_tensor({}, {3.0f}, DType::kBF16);
  write_folder(folder.path(), packed_config(model.config(), LinearClass::kBitLinear), tensors);
  const Matrix matrix = read_linear(Checkpoint::open(folder.path()), "blk.0.attn_q.weight");
  for (const float scale : matrix.scales) EXPECT_EQ(scale, 1.0f / 3.0f);
}

TEST(Checkpoint, ReadsEveryTernaryGgufType) {
  const SmallModel model(small_config());
  // Rows of 128 are too short for the TQ types' blocks of 256.
  ModelConfig wide = small_config();
  wide.hidden_size = 256;
  wide.head_dim = 64;
  const SmallModel wide_model(wide);
  for (const auto& [dtype, tolerance] : {std::pair{DType::kI2_S, 0.0f}, std::pair{DType::kTQ1_0, 0x1p-11f},
                                         std::pair{DType::kTQ2_0, 0x1p-11f}}) {
    const TemporaryFolder folder;
    write_gguf(folder / "m.gguf", wide, wide_model.gguf_tensors(dtype));
    const Checkpoint checkpoint = Checkpoint::open(folder / "m.gguf");
    EXPECT_EQ(checkpoint.linear("blk.1.ffn_down.weight").stored_dtype(), dtype);
    expect_same_linears(checkpoint, wide_model, tolerance);
  }
}

TEST(Checkpoint, TakesExactlyTernaryFloatsAsTheyAre) {
  const SmallModel model(small_config());
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::kF32, 0.0f}, std::pair{DType::kF16, 0x1p-11f}, std::pair{DType::kBF16, 0x1p-8f}}) {
    const TemporaryFolder folder;
    write_gguf(folder / "m.gguf", model.config(), model.gguf_tensors(dtype));
    const Checkpoint checkpoint = Checkpoint::open(folder / "m.gguf");
    EXPECT_EQ(checkpoint.linear("blk.1.ffn_down.weight").kind(), TernarySource::Kind::kExactFloat);
    expect_same_linears(checkpoint, model, tolerance);
  }
}

TEST(Checkpoint, UnpermutesLlamaGgufFiles) {
  const SmallModel model(small_llama_config());
  for (const DType dtype : {DType::kI2_S, DType::kF32}) {
    const TemporaryFolder folder;
    write_gguf(folder / "m.gguf", model.config(), model.gguf_tensors(dtype));
    expect_same_linears(Checkpoint::open(folder / "m.gguf"), model);
  }
}

TEST(RowOrder, FollowsTheDefinition) {
  // Half-split rows 0 1 2 | 3 4 5 of a head of 6 are stored as 0 3 1 4 2 5.
  const RowOrder order = RowOrder::interleaved(6);
  const std::vector<int64_t> stored = {0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11};
  for (size_t row = 0; row < stored.size(); ++row) {
    EXPECT_EQ(order.stored(static_cast<int64_t>(row)), stored[row]);
    EXPECT_EQ(order.engine(stored[row]), static_cast<int64_t>(row));
  }
  EXPECT_EQ(RowOrder().stored(5), 5);
}

/// A float source over values that this object owns.
struct FloatMatrix {
  FloatMatrix(int64_t rows, int64_t cols, std::vector<float> content) : values(std::move(content)) {
    LinearBytes tensor;
    tensor.rows = rows;
    tensor.cols = cols;
    tensor.bytes = std::as_bytes(std::span(values));
    tensor.label = "m";
    source = make_ternary_source(std::move(tensor));
  }
  std::vector<float> values;
  std::unique_ptr<TernarySource> source;
};

TEST(TernarySource, QuantizesMasterWeightsByTheirMeanMagnitude) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values;
  for (int i = 0; i < 96 * 100; ++i) values.push_back(normal(random));
  const FloatMatrix matrix(100, 96, values);
  EXPECT_EQ(matrix.source->kind(), TernarySource::Kind::kMaster);
  std::vector<int8_t> trits(values.size());
  std::vector<float> scales(100), floats(values.size());
  // Many threads at once: the scale is found once.
  std::vector<std::thread> threads;
  for (int64_t first = 0; first < 100; first += 25) {
    threads.emplace_back([&, first] {
      matrix.source->read_rows(first, 25, std::span(trits).subspan(static_cast<size_t>(first * 96), 25 * 96),
                               std::span(scales).subspan(static_cast<size_t>(first), 25));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const float s = absmean(values);
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(trits[i], std::clamp(std::nearbyint(values[i] * (1.0f / s)), -1.0f, 1.0f)) << i;
  }
  for (const float scale : scales) EXPECT_EQ(scale, s);
  matrix.source->read_float_rows(0, 100, floats);
  EXPECT_EQ(floats, values);
}

TEST(TernarySource, TakesAllZerosAsTernary) {
  const FloatMatrix matrix(4, 32, std::vector<float>(128, -0.0f));
  EXPECT_EQ(matrix.source->kind(), TernarySource::Kind::kExactFloat);
  std::vector<int8_t> trits(128, 1);
  std::vector<float> scales(4);
  matrix.source->read_rows(0, 4, trits, scales);
  EXPECT_EQ(trits, std::vector<int8_t>(128, 0));
  EXPECT_GT(scales[0], 0.0f);
}

TEST(TernarySource, RefusesNanAndInfinity) {
  for (const float bad : {NAN, INFINITY}) {
    std::vector<float> values(128, 0.5f);
    values[77] = bad;
    const FloatMatrix mixed(4, 32, values);
    EXPECT_EQ(error_of([&] { (void)mixed.source->kind(); }).code(), ErrorCode::kCorruptData);
    const FloatMatrix alone(4, 32, std::vector<float>(128, bad));
    EXPECT_EQ(error_of([&] { (void)alone.source->kind(); }).code(), ErrorCode::kCorruptData);
  }
}

TEST(TernarySource, ChecksWhatTheCallerAsksFor) {
  const FloatMatrix matrix(4, 32, std::vector<float>(128, 0.5f));
  std::vector<int8_t> trits(64);
  std::vector<float> scales(2);
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{3, 2}, {-1, 2}, {0, 3}, {INT64_MAX, 2}}) {
    EXPECT_EQ(error_of([&, f = first, c = count] { matrix.source->read_rows(f, c, trits, scales); }).code(),
              ErrorCode::kInvalidArgument);
  }
}

TEST(Checkpoint, MultipliesByTheScaleTensorsOfLlamaCpp) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  auto tensors = model.gguf_tensors();
  tensors["blk.0.attn_q.scale"] = float_tensor({1}, {0.5f});
  write_gguf(folder / "m.gguf", model.config(), tensors);
  const Matrix matrix = read_linear(Checkpoint::open(folder / "m.gguf"), "blk.0.attn_q.weight");
  EXPECT_EQ(matrix.scales[0], model.scale("blk.0.attn_q.weight") * 0.5f);
}

TEST(Checkpoint, ReadsTheSubNormNamesOfOneBitLlm) {
  ModelConfig config = small_config();
  config.architecture = "bitnet";
  config.activation = Activation::kSilu;
  const SmallModel model(config);
  const TemporaryFolder folder;
  auto tensors = model.hf_tensors(LinearClass::kAutoBitLinear, DType::kF32);
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    tensors[layer + "self_attn.inner_attn_ln.weight"] = tensors.at(layer + "self_attn.attn_sub_norm.weight");
    tensors[layer + "mlp.ffn_layernorm.weight"] = tensors.at(layer + "mlp.ffn_sub_norm.weight");
    tensors.erase(layer + "self_attn.attn_sub_norm.weight");
    tensors.erase(layer + "mlp.ffn_sub_norm.weight");
    tensors[layer + "self_attn.rotary_emb.inv_freq"] = float_tensor({16}, std::vector<float>(16, 1.0f));
  }
  write_safetensors(folder / "model.safetensors", tensors);
  write_text_file(folder / "config.json", R"({"model_type": "llama", "architectures": ["BitnetForCausalLM"],
      "weight_bits": 1, "input_bits": 8, "hidden_act": "silu", "vocab_size": 96, "hidden_size": 128,
      "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
      "max_position_embeddings": 64, "rope_theta": 10000.0, "tie_word_embeddings": true})");
  std::vector<std::string> warnings;
  set_log_callback([&](LogLevel, std::string_view message) { warnings.emplace_back(message); },
                   LogLevel::kWarning);
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  set_log_callback({});
  EXPECT_EQ(warnings, std::vector<std::string>{});
  EXPECT_EQ(checkpoint.config().architecture, "bitnet");
  EXPECT_EQ(checkpoint.dense("blk.1.ffn_sub_norm.weight").shape, Shape{256});
  expect_same_linears(checkpoint, model);
}

TEST(Checkpoint, TakesALlamaOnlyIfSomethingSaysThatItIsTernary) {
  const SmallModel model(small_llama_config());
  const TemporaryFolder folder;
  HfConfig config = packed_config(model.config(), LinearClass::kBitLinear);
  config.quantization.declared = false;
  auto tensors = model.hf_tensors(LinearClass::kBitLinear, DType::kF32);
  write_folder(folder.path(), config, tensors);
  expect_same_linears(Checkpoint::open(folder.path()), model);

  // One weight off: no longer ternary, and nothing says that it should be.
  auto& bytes = tensors.at("model.layers.0.mlp.up_proj.weight").bytes;
  const float odd = 0.123f;
  std::memcpy(bytes.data(), &odd, sizeof(odd));
  write_folder(folder.path(), config, tensors);
  EXPECT_EQ(
      error_of([&] { (void)read_linear(Checkpoint::open(folder.path()), "blk.0.ffn_up.weight"); }).code(),
      ErrorCode::kUnsupported);
  config.quantization.declared = true;
  write_folder(folder.path(), config, tensors);
  EXPECT_EQ(Checkpoint::open(folder.path()).linear("blk.0.ffn_up.weight").kind(),
            TernarySource::Kind::kMaster);
}

TEST(Checkpoint, ReadsShardedFolders) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  const auto tensors = model.hf_tensors(LinearClass::kAutoBitLinear);
  std::map<std::string, FileTensor> shards[2];
  std::string index;
  for (const auto& [name, tensor] : tensors) {
    const size_t shard = name.find("layers.1.") != std::string::npos ? 1 : 0;
    shards[shard][name] = tensor;
    index += (index.empty() ? "" : ",") +
             ("\"" + name + "\":\"model-0000" + std::to_string(shard + 1) + "-of-00002.safetensors\"");
  }
  write_folder(folder.path(), packed_config(model.config(), LinearClass::kAutoBitLinear), {});
  std::filesystem::remove(folder / "model.safetensors");
  write_safetensors(folder / "model-00001-of-00002.safetensors", shards[0]);
  write_safetensors(folder / "model-00002-of-00002.safetensors", shards[1]);
  write_text_file(folder / "model.safetensors.index.json", "{\"weight_map\":{" + index + "}}");
  expect_same_linears(Checkpoint::open(folder.path()), model);
  std::filesystem::remove(folder / "model-00002-of-00002.safetensors");
  EXPECT_EQ(error_of([&] { (void)Checkpoint::open(folder.path()); }).code(), ErrorCode::kNotFound);
}

TEST(Checkpoint, JoinsTheStopTokensOfAllFiles) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  write_folder(folder.path(), packed_config(model.config(), LinearClass::kAutoBitLinear),
               model.hf_tensors(LinearClass::kAutoBitLinear));
  write_text_file(folder / "generation_config.json", R"({"eos_token_id": [9, 2, 4000]})");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.stop_tokens(), (std::vector<int32_t>{2, 9}));  // 4000 is beyond the vocabulary
  EXPECT_EQ(checkpoint.bos_token(), 1);
  EXPECT_FALSE(checkpoint.tokenizer().has_value());
}

TEST(Checkpoint, FindsProjectionNormsByTheirTensors) {
  ModelConfig config = small_config();
  config.projection_norms = true;
  config.projection_norm_eps = 2e-6f;
  const SmallModel model(config);
  const TemporaryFolder folder;
  write_folder(folder / "hf", packed_config(config, LinearClass::kAutoBitLinear),
               model.hf_tensors(LinearClass::kAutoBitLinear));
  write_gguf(folder / "m.gguf", config, model.gguf_tensors());
  for (const char* path : {"hf", "m.gguf"}) {
    const Checkpoint checkpoint = Checkpoint::open(folder / path);
    EXPECT_TRUE(checkpoint.config().projection_norms);
    EXPECT_EQ(checkpoint.config().projection_norm_eps, 2e-6f);
    EXPECT_EQ(checkpoint.dense("blk.1.ffn_down_norm_in.weight").shape, Shape{256});
  }
}

TEST(Checkpoint, TellsWhatIsNotUsed) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  auto tensors = model.gguf_tensors();
  tensors["blk.0.mystery.weight"] = float_tensor({2}, {1.0f, 2.0f});
  write_gguf(folder / "m.gguf", model.config(), tensors);
  std::string warnings;
  set_log_callback([&](LogLevel, std::string_view message) { warnings += message; }, LogLevel::kWarning);
  (void)Checkpoint::open(folder / "m.gguf");
  set_log_callback({});
  EXPECT_NE(warnings.find("blk.0.mystery.weight"), std::string::npos);
}

}  // namespace
}  // namespace bitnet
