// The checkpoints that PyTorch and transformers wrote, and what they turn into.

#include "bitnet/io/safetensors.h"
#include "bitnet/model/convert.h"
#include "bitnet/quant/ternary_formats.h"
#include "small_model.h"
#include "temporary_folder.h"

#include <algorithm>
#include <cstring>

namespace bitnet {
namespace {

using namespace bitnet::testing;
using Target = ConvertOptions::Target;

std::filesystem::path reference(const std::string& name) {
  return std::filesystem::path(BITNET_SOURCE_DIR) / "tests/data/reference" / name;
}

class ReferenceFiles : public ::testing::TestWithParam<const char*> {};

TEST_P(ReferenceFiles, KeepTheirLinearsThroughEveryFormat) {
  const TemporaryFolder folder;
  const Checkpoint source = Checkpoint::open(reference(GetParam()));
  EXPECT_EQ(source.stop_tokens(), std::vector<int32_t>{2});
  EXPECT_EQ(source.bos_token(), 1);
  ConvertOptions options;
  (void)convert(source, folder / "a.gguf", options);
  const Checkpoint gguf = Checkpoint::open(folder / "a.gguf");
  expect_same_linears(source, gguf);
  EXPECT_EQ(gguf.stop_tokens(), source.stop_tokens());
  EXPECT_EQ(gguf.bos_token(), source.bos_token());
  options.target = Target::kHuggingFace;
  (void)convert(gguf, folder / "hf", options);
  const Checkpoint hf = Checkpoint::open(folder / "hf");
  expect_same_linears(source, hf);
  EXPECT_EQ(hf.config().architecture, source.config().architecture);
  EXPECT_EQ(hf.config().rope_theta, source.config().rope_theta);
  for (const DenseSource& dense : source.dense_tensors()) {
    EXPECT_EQ(read_dense(dense), read_dense(hf.dense(dense.name))) << dense.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ReferenceFiles,
                         ::testing::Values("bitnet-online", "bitnet-packed", "llama-packed"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(ReferenceModels, SayWhatTheyAre) {
  const Checkpoint online = Checkpoint::open(reference("bitnet-online"));
  EXPECT_EQ(online.config().architecture, "bitnet-b1.58");
  EXPECT_EQ(online.linear("blk.0.ffn_up.weight").kind(), TernarySource::Kind::kMaster);
  const Checkpoint packed = Checkpoint::open(reference("bitnet-packed"));
  EXPECT_EQ(packed.linear("blk.0.ffn_up.weight").kind(), TernarySource::Kind::kPacked);
  EXPECT_TRUE(packed.config().sub_norms);
  const Checkpoint llama = Checkpoint::open(reference("llama-packed"));
  EXPECT_EQ(llama.config().architecture, "llama");
  EXPECT_FALSE(llama.config().tied_head);
  EXPECT_FALSE(llama.config().sub_norms);
}

TEST(ReferenceModels, DivideByTheScaleOfBitLinear) {
  const SafetensorsFile file = SafetensorsFile::open(reference("llama-packed"));
  float stored = 0;
  std::memcpy(&stored, file.find("model.layers.0.mlp.up_proj.weight_scale")->bytes.data(), sizeof(stored));
  const Matrix matrix = read_linear(Checkpoint::open(reference("llama-packed")), "blk.0.ffn_up.weight");
  EXPECT_EQ(matrix.scales[0], 1.0f / stored);
}

TEST(ReferenceModels, QuantizeMasterWeightsByTheirMean) {
  const SafetensorsFile file = SafetensorsFile::open(reference("bitnet-online"));
  const SafetensorsEntry* entry = file.find("model.layers.2.mlp.down_proj.weight");
  std::vector<float> values(entry->bytes.size() / sizeof(float));
  std::memcpy(values.data(), entry->bytes.data(), entry->bytes.size());
  const Matrix matrix = read_linear(Checkpoint::open(reference("bitnet-online")), "blk.2.ffn_down.weight");
  std::vector<int8_t> trits(values.size());
  ternarize(values, absmean(values), trits);
  EXPECT_EQ(matrix.trits, trits);
  EXPECT_EQ(matrix.scales[0], absmean(values));
}

}  // namespace
}  // namespace bitnet
