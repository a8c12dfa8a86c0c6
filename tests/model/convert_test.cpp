#include "bitnet/model/convert.h"

#include "bitnet/core/half.h"
#include "bitnet/core/mapped_file.h"
#include "model/synth_tokenizer.h"
#include "small_model.h"
#include "temporary_folder.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <fmt/format.h>

namespace bitnet {
namespace {

using namespace bitnet::testing;
using LinearClass = HfQuantization::LinearClass;
using Target = ConvertOptions::Target;

/// Rows of 256, so that every format can hold them.
ModelConfig wide_config(const ModelConfig& base) {
  ModelConfig config = base;
  config.hidden_size = 256;
  config.head_dim = 64;
  return config;
}

std::filesystem::path write_packed(const TemporaryFolder& folder, const SmallModel& model,
                                   LinearClass linear_class = LinearClass::kAutoBitLinear) {
  write_folder(folder / "source", packed_config(model.config(), linear_class),
               model.hf_tensors(linear_class));
  return folder / "source";
}

ConvertReport convert_path(const std::filesystem::path& from, const std::filesystem::path& to, Target target,
                           std::optional<DType> linear = {}, std::optional<DType> embedding = {}) {
  ConvertOptions options;
  options.target = target;
  options.linear_type = linear;
  options.embedding_type = embedding;
  return convert(Checkpoint::open(from), to, options);
}

void expect_same_dense(const Checkpoint& left, const Checkpoint& right) {
  ASSERT_EQ(left.dense_tensors().size(), right.dense_tensors().size());
  for (const DenseSource& source : left.dense_tensors()) {
    EXPECT_EQ(read_dense(source), read_dense(right.dense(source.name))) << source.name;
  }
}

TEST(Convert, KeepsTritsAndScalesThroughEveryGgufType) {
  for (const ModelConfig& base : {small_config(), small_llama_config()}) {
    const SmallModel model(wide_config(base));
    const TemporaryFolder folder;
    const auto source = write_packed(folder, model);
    for (const auto& [dtype, tolerance] :
         {std::pair{DType::kI2_S, 0.0f}, std::pair{DType::kF32, 0.0f}, std::pair{DType::kTQ1_0, 0x1p-11f},
          std::pair{DType::kTQ2_0, 0x1p-11f}, std::pair{DType::kF16, 0x1p-11f},
          std::pair{DType::kBF16, 0x1p-8f}}) {
      SCOPED_TRACE(to_string(dtype));
      const auto output = folder / (std::string(to_string(dtype)) + ".gguf");
      const ConvertReport report = convert_path(source, output, Target::kGguf, dtype);
      EXPECT_EQ(report.lossless, tolerance == 0.0f);
      EXPECT_EQ(report.losses.empty(), report.lossless);
      EXPECT_EQ(report.bytes_written, static_cast<int64_t>(std::filesystem::file_size(output)));
      const Checkpoint again = Checkpoint::open(output);
      EXPECT_EQ(again.config().architecture, base.architecture);
      EXPECT_EQ(again.config().tied_head, base.tied_head);
      expect_same_linears(again, model, tolerance);
      expect_same_dense(Checkpoint::open(source), again);
    }
  }
}

TEST(Convert, StoresTheScaleOfBitLinearAsTheEngineUsesIt) {
  const SmallModel model(small_llama_config());
  const TemporaryFolder folder;
  const auto source = write_packed(folder, model, LinearClass::kBitLinear);
  EXPECT_TRUE(convert_path(source, folder / "a.gguf", Target::kGguf).lossless);
  EXPECT_TRUE(convert_path(folder / "a.gguf", folder / "back", Target::kHuggingFace).lossless);
  const Checkpoint first = Checkpoint::open(source), last = Checkpoint::open(folder / "back");
  expect_same_linears(first, Checkpoint::open(folder / "a.gguf"));
  expect_same_linears(first, last);
  expect_same_dense(first, last);
}

TEST(Convert, WritesTheSameFileAfterARoundTrip) {
  for (const ModelConfig& config : {small_config(), small_llama_config()}) {
    const SmallModel model(config);
    const TemporaryFolder folder;
    convert_path(write_packed(folder, model), folder / "a", Target::kHuggingFace);
    convert_path(folder / "a", folder / "a.gguf", Target::kGguf);
    convert_path(folder / "a.gguf", folder / "b", Target::kHuggingFace);
    convert_path(folder / "b", folder / "b.gguf", Target::kGguf);
    const auto same = [&](const char* left, const char* right) {
      const auto size = std::filesystem::file_size(folder / left);
      EXPECT_EQ(size, std::filesystem::file_size(folder / right));
      const MappedFile a = MappedFile::open(folder / left), b = MappedFile::open(folder / right);
      EXPECT_TRUE(std::ranges::equal(a.bytes(), b.bytes())) << left << " " << right;
    };
    same("a/model.safetensors", "b/model.safetensors");
    same("a/config.json", "b/config.json");
    same("a.gguf", "b.gguf");
  }
}

TEST(Convert, WritesFloatFoldersThatStayTernary) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  const auto source = write_packed(folder, model);
  const ConvertReport report = convert_path(source, folder / "f32", Target::kHuggingFace, DType::kF32);
  EXPECT_TRUE(report.lossless);
  const Checkpoint again = Checkpoint::open(folder / "f32");
  EXPECT_EQ(again.linear("blk.0.attn_q.weight").kind(), TernarySource::Kind::kExactFloat);
  expect_same_linears(again, model);
}

/// A folder of random float weights, quantized on load.
void write_online(const std::filesystem::path& folder, const ModelConfig& config) {
  const SmallModel model(config);
  auto tensors = model.hf_tensors(LinearClass::kAutoBitLinear, DType::kF32);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 0.05f);
  for (auto& [name, tensor] : tensors) {
    if (name.find("_proj.weight") == std::string::npos) continue;
    std::vector<float> values(static_cast<size_t>(element_count(tensor.shape)));
    for (float& value : values) value = normal(random);
    tensor = float_tensor(tensor.shape, values);
  }
  HfConfig hf = packed_config(config, LinearClass::kAutoBitLinear);
  hf.quantization.offline = false;
  write_folder(folder, hf, tensors);
}

TEST(Convert, SaysThatMasterWeightsAreLost) {
  const TemporaryFolder folder;
  write_online(folder / "online", small_config());
  const ConvertReport report = convert_path(folder / "online", folder / "m.gguf", Target::kGguf);
  EXPECT_FALSE(report.lossless);
  ASSERT_EQ(report.losses.size(), 1u);
  EXPECT_NE(report.losses[0].find("master weights of 14 linear layers"), std::string::npos)
      << report.losses[0];
  expect_same_linears(Checkpoint::open(folder / "online"), Checkpoint::open(folder / "m.gguf"));
}

TEST(Convert, KeepsMasterWeightsInFloatFolders) {
  const TemporaryFolder folder;
  write_online(folder / "online", small_config());
  EXPECT_TRUE(convert_path(folder / "online", folder / "f32", Target::kHuggingFace, DType::kF32).lossless);
  const Checkpoint first = Checkpoint::open(folder / "online"), again = Checkpoint::open(folder / "f32");
  EXPECT_EQ(again.linear("blk.0.attn_q.weight").kind(), TernarySource::Kind::kMaster);
  expect_same_linears(first, again);
  const ConvertReport rounded =
      convert_path(folder / "online", folder / "bf16", Target::kHuggingFace, DType::kBF16);
  EXPECT_FALSE(rounded.lossless);
}

TEST(Convert, ReportsTheLargestErrorOfScales) {
  const SmallModel model(wide_config(small_config()));
  const TemporaryFolder folder;
  const ConvertReport report =
      convert_path(write_packed(folder, model), folder / "m.gguf", Target::kGguf, DType::kTQ2_0);
  double worst = 0;
  for (const std::string& name : model.linear_names()) {
    const float scale = model.scale(name);
    worst = std::max(
        worst,
        std::fabs(static_cast<double>(f16_to_f32(f32_to_f16(scale))) / static_cast<double>(scale) - 1));
  }
  ASSERT_EQ(report.losses.size(), 1u);
  EXPECT_NE(report.losses[0].find(fmt::format("{:.2g}", worst)), std::string::npos) << report.losses[0];
}

TEST(Convert, KeepsOrChangesTheEmbedding) {
  const SmallModel model(wide_config(small_config()));
  const TemporaryFolder folder;
  const auto source = write_packed(folder, model);
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ6_K, DType::kQ4_0}) {
    SCOPED_TRACE(to_string(dtype));
    const auto output = folder / (std::string(to_string(dtype)) + ".gguf");
    const ConvertReport report = convert_path(source, output, Target::kGguf, {}, dtype);
    EXPECT_FALSE(report.lossless);
    const Checkpoint checkpoint = Checkpoint::open(output);
    EXPECT_EQ(checkpoint.dense("token_embd.weight").dtype, dtype);
    // Kept as it is on the way to another file; written as f32, with the same values, to a folder.
    EXPECT_TRUE(convert_path(output, folder / "again.gguf", Target::kGguf).lossless);
    EXPECT_EQ(Checkpoint::open(folder / "again.gguf").dense("token_embd.weight").dtype, dtype);
    const auto back = folder / (std::string(to_string(dtype)) + "-hf");
    const ConvertReport unpacked = convert_path(output, back, Target::kHuggingFace);
    EXPECT_TRUE(unpacked.lossless);
    EXPECT_EQ(unpacked.notes.empty() || unpacked.notes[0].find("token_embd") == std::string::npos, true);
    expect_same_dense(checkpoint, Checkpoint::open(back));
  }
}

TEST(Convert, RefusesRowsThatAFormatCannotHoldByName) {
  ModelConfig config = small_config();  // 2 heads of 96: rows of 192 in attn_output
  config.hidden_size = 192;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 96;
  config.intermediate_size = 320;
  const SmallModel model(config);
  const TemporaryFolder folder;
  const auto source = write_packed(folder, model);
  for (const DType dtype : {DType::kTQ1_0, DType::kTQ2_0}) {
    const Error error = error_of([&] { convert_path(source, folder / "m.gguf", Target::kGguf, dtype); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("blk.0.attn_q.weight"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("192"), std::string::npos) << error.what();
    EXPECT_FALSE(std::filesystem::exists(folder / "m.gguf"));
  }
  // i2_s is flat: it holds them, but other engines' kernels cannot.
  const ConvertReport report = convert_path(source, folder / "m.gguf", Target::kGguf);
  EXPECT_TRUE(report.lossless);
  ASSERT_EQ(report.notes.size(), 1u);
  EXPECT_NE(report.notes[0].find("192"), std::string::npos);
  expect_same_linears(Checkpoint::open(folder / "m.gguf"), model);
  const Error embedding =
      error_of([&] { convert_path(source, folder / "e.gguf", Target::kGguf, {}, DType::kQ6_K); });
  EXPECT_EQ(embedding.code(), ErrorCode::kUnsupported);
  EXPECT_NE(std::string(embedding.what()).find("token_embd.weight"), std::string::npos) << embedding.what();
}

TEST(Convert, RefusesTypesThatTheTargetLacks) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  const auto source = write_packed(folder, model);
  const auto code = [&](Target target, std::optional<DType> linear, std::optional<DType> embedding) {
    return error_of([&] { convert_path(source, folder / "x", target, linear, embedding); }).code();
  };
  EXPECT_EQ(code(Target::kGguf, DType::kHfTernary, {}), ErrorCode::kUnsupported);
  EXPECT_EQ(code(Target::kGguf, DType::kIQ2_BN, {}), ErrorCode::kUnsupported);
  EXPECT_EQ(code(Target::kGguf, {}, DType::kI2_S), ErrorCode::kUnsupported);
  EXPECT_EQ(code(Target::kHuggingFace, DType::kI2_S, {}), ErrorCode::kUnsupported);
  EXPECT_EQ(code(Target::kHuggingFace, {}, DType::kQ8_0), ErrorCode::kUnsupported);
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

TEST(Convert, CarriesWhatTheModelComputes) {
  ModelConfig config = wide_config(small_llama_config());
  config.projection_norms = true;
  config.projection_norm_eps = 3e-6f;
  config.rms_norm_eps = 1e-6f;
  config.rope_theta = 1000042;
  config.rope_scaling = {RopeScaling::Type::kLlama3, 32.0, 1.0, 4.0, 8192};
  const SmallModel model(config);
  const TemporaryFolder folder;
  convert_path(write_packed(folder, model), folder / "m.gguf", Target::kGguf);
  convert_path(folder / "m.gguf", folder / "hf", Target::kHuggingFace);
  for (const char* path : {"m.gguf", "hf"}) {
    SCOPED_TRACE(path);
    const ModelConfig again = Checkpoint::open(folder / path).config();
    EXPECT_TRUE(again.projection_norms);
    EXPECT_EQ(again.projection_norm_eps, 3e-6f);
    EXPECT_EQ(again.rms_norm_eps, 1e-6f);
    EXPECT_EQ(again.rope_theta, 1000042);
    EXPECT_EQ(again.rope_scaling.type, RopeScaling::Type::kLlama3);
    EXPECT_EQ(again.rope_scaling.factor, 32.0);
    EXPECT_TRUE(again.rope_factors.empty());
    EXPECT_EQ(again.activation, Activation::kSilu);
    EXPECT_FALSE(again.tied_head);
    EXPECT_EQ(again.head_dim, 64);
  }
}

TEST(Convert, CarriesTokenizerAndStopTokens) {
  ModelConfig config = small_config();
  config.vocab_size = 400;
  const SmallModel model(config);
  const TemporaryFolder folder;
  const auto source = write_packed(folder, model);
  const TokenizerSpec spec = synth_tokenizer(390);
  write_tokenizer_files(spec, source);
  write_text_file(source / "generation_config.json", R"({"eos_token_id": [381, 389, 300]})");
  convert_path(source, folder / "m.gguf", Target::kGguf);
  convert_path(folder / "m.gguf", folder / "hf", Target::kHuggingFace);
  const std::vector<int32_t> stops = Checkpoint::open(source).stop_tokens();
  EXPECT_TRUE(std::ranges::includes(stops, std::vector<int32_t>{300, 381, 389}));
  for (const char* path : {"m.gguf", "hf"}) {
    SCOPED_TRACE(path);
    const Checkpoint again = Checkpoint::open(folder / path);
    ASSERT_TRUE(again.tokenizer().has_value());
    EXPECT_EQ(again.tokenizer()->tokens, spec.tokens);
    EXPECT_EQ(again.tokenizer()->merges, spec.merges);
    EXPECT_EQ(again.bos_token(), spec.bos);
    EXPECT_EQ(again.stop_tokens(), stops);
  }
}

TEST(Convert, RefusesToOverwriteAFolder) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  const auto source = write_packed(folder, model);
  std::filesystem::create_directories(folder / "full");
  write_text_file(folder / "full/precious.txt", "x");
  EXPECT_EQ(error_of([&] { convert_path(source, folder / "full", Target::kHuggingFace); }).code(),
            ErrorCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(folder / "full/precious.txt"));
  std::filesystem::create_directories(folder / "empty");
  EXPECT_NO_THROW(convert_path(source, folder / "empty", Target::kHuggingFace));
}

TEST(Convert, LeavesNothingBehindWhenItFails) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  auto tensors = model.hf_tensors(LinearClass::kAutoBitLinear);
  tensors.at("model.layers.1.mlp.down_proj.weight").bytes[7] |= std::byte{0xc0};  // found late, while writing
  write_folder(folder / "source", packed_config(model.config(), LinearClass::kAutoBitLinear), tensors);
  for (const Target target : {Target::kGguf, Target::kHuggingFace}) {
    const Error error = error_of([&] { convert_path(folder / "source", folder / "out", target); });
    EXPECT_EQ(error.code(), ErrorCode::kCorruptData);
    EXPECT_NE(std::string(error.what()).find("down_proj"), std::string::npos) << error.what();
    size_t entries = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++entries;
    EXPECT_EQ(entries, 1u);
  }
}

TEST(Convert, ReportsProgressToTheEnd) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  int64_t last = 0, total = 0;
  ConvertOptions options;
  options.progress = [&](int64_t done, int64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  (void)convert(Checkpoint::open(write_packed(folder, model)), folder / "m.gguf", options);
  EXPECT_GT(total, 0);
  EXPECT_EQ(last, total);
}

}  // namespace
}  // namespace bitnet
