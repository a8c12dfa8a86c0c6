#include "bitnet/core/mapped_file.h"
#include "bitnet/model/convert.h"
#include "model/synth_tokenizer.h"
#include "small_model.h"
#include "temporary_folder.h"

#include <algorithm>
#include <cmath>

namespace bitnet {
namespace {

using namespace bitnet::testing;

SynthOptions small_options() {
  SynthOptions options;
  options.config = small_config();
  options.config.vocab_size = 600;
  options.config.hidden_size = 256;
  options.config.head_dim = 64;
  return options;
}

TEST(Synth, WritesAModelThatOpens) {
  const TemporaryFolder folder;
  synthesize(small_options(), folder / "m.gguf");
  const Checkpoint checkpoint = Checkpoint::open(folder / "m.gguf");
  EXPECT_EQ(checkpoint.config().vocab_size, 600);
  ASSERT_TRUE(checkpoint.tokenizer().has_value());
  EXPECT_EQ(checkpoint.tokenizer()->tokens.size(), 600u);
  EXPECT_EQ(checkpoint.dense("token_embd.weight").dtype, DType::kF16);
}

TEST(Synth, IsTheSameForTheSameSeedWhateverTheType) {
  const TemporaryFolder folder;
  SynthOptions options = small_options();
  synthesize(options, folder / "a.gguf");
  synthesize(options, folder / "b.gguf");
  const MappedFile a = MappedFile::open(folder / "a.gguf"), b = MappedFile::open(folder / "b.gguf");
  EXPECT_TRUE(std::ranges::equal(a.bytes(), b.bytes()));
  for (const DType dtype : {DType::kTQ1_0, DType::kTQ2_0, DType::kF16}) {
    options.linear_type = dtype;
    synthesize(options, folder / "c.gguf");
    expect_same_linears(Checkpoint::open(folder / "a.gguf"), Checkpoint::open(folder / "c.gguf"));
  }
  options = small_options();
  options.seed = 1;
  synthesize(options, folder / "d.gguf");
  EXPECT_NE(read_linear(Checkpoint::open(folder / "a.gguf"), "blk.0.attn_q.weight").trits,
            read_linear(Checkpoint::open(folder / "d.gguf"), "blk.0.attn_q.weight").trits);
}

TEST(Synth, DrawsTritsEvenlyAndKeepsTheVariance) {
  const TemporaryFolder folder;
  synthesize(small_options(), folder / "m.gguf");
  const Checkpoint checkpoint = Checkpoint::open(folder / "m.gguf");
  const Matrix matrix = read_linear(checkpoint, "blk.1.ffn_up.weight");
  const auto count = static_cast<double>(matrix.trits.size());
  for (const int trit : {-1, 0, 1}) {
    // 65536 draws: the share's deviation is 0.0018; the table's own bias is below 0.01.
    const auto found = static_cast<double>(std::ranges::count(matrix.trits, static_cast<int8_t>(trit)));
    EXPECT_NEAR(found / count, 1.0 / 3.0, 0.02) << trit;
  }
  EXPECT_NEAR(matrix.scales[0], std::sqrt(1.5 / 256), 1e-4);
  const std::vector<float> embedding = read_dense(checkpoint.dense("token_embd.weight"));
  double sum = 0, squares = 0;
  for (const float value : embedding) {
    sum += static_cast<double>(value);
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  EXPECT_NEAR(sum / static_cast<double>(embedding.size()), 0.0, 0.002);
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(embedding.size())), 2.0 / 16.0, 0.002);
}

TEST(Synth, HasEveryPresetItNames) {
  for (const std::string& name : synth_preset_names()) {
    SCOPED_TRACE(name);
    EXPECT_NO_THROW(synth_preset(name).validate());
  }
  EXPECT_EQ(synth_preset("bitnet-b1.58-2b-4t").hidden_size, 2560);
  const Error error = error_of([] { (void)synth_preset("gpt-5"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(std::string(error.what()).find("falcon3-7b"), std::string::npos);
}

TEST(Synth, RefusesVocabulariesWithoutRoomForBytes) {
  SynthOptions options = small_options();
  options.config.vocab_size = 200;
  const TemporaryFolder folder;
  EXPECT_EQ(error_of([&] { synthesize(options, folder / "m.gguf"); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(folder / "m.gguf"));
}

TEST(SynthTokenizer, HasTheSpecialTokensOfLlama3) {
  const Tokenizer tokenizer(synth_tokenizer(128256));
  EXPECT_EQ(tokenizer.vocab_size(), 128256);
  EXPECT_EQ(tokenizer.find("<|begin_of_text|>"), 128000);
  EXPECT_EQ(tokenizer.find("<|end_of_text|>"), 128001);
  EXPECT_EQ(tokenizer.find("<|start_header_id|>"), 128006);
  EXPECT_EQ(tokenizer.find("<|end_header_id|>"), 128007);
  EXPECT_EQ(tokenizer.find("<|eot_id|>"), 128009);
}

TEST(SynthTokenizer, ReachesEveryToken) {
  const Tokenizer tokenizer(synth_tokenizer(3000));
  EncodeOptions options;
  options.add_special = false;
  for (int32_t id = 256; id < 3000 - 10; ++id) {
    EXPECT_EQ(tokenizer.encode(tokenizer.token_bytes(id), options), std::vector<int32_t>{id}) << id;
  }
  const std::string text = "Any text: 123, \xc3\xa4\xc3\xb6\xc3\xbc, \xf0\x9f\x98\x80\n\n  of bytes.";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, options)), text);
}

}  // namespace
}  // namespace bitnet
