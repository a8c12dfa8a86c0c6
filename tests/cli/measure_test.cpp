#include "bitnet/io/safetensors.h"
#include "cli_test.h"

#include <cmath>
#include <cstring>

namespace bitnet::testing {
namespace {

using CliLogits = CliTest;
using CliPerplexity = CliTest;

std::vector<float> read_logits(const std::string& path, const Shape& shape) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const SafetensorsEntry* entry = file.find("logits");
  EXPECT_NE(entry, nullptr);
  if (entry == nullptr) return {};
  EXPECT_EQ(entry->dtype, DType::kF32);
  EXPECT_EQ(entry->shape, shape);
  std::vector<float> values(entry->bytes.size() / sizeof(float));
  std::memcpy(values.data(), entry->bytes.data(), entry->bytes.size());
  return values;
}

TEST_F(CliLogits, WritesARowForEachTokenAndAgreesWithTheOracle) {
  const Json json = json_with_model({"logits", "--ids", "1,2,3", "-o", path("logits.safetensors")});
  EXPECT_EQ(json["shape"], Json::array({3, 512}));
  const auto logits = read_logits(path("logits.safetensors"), {3, 512});
  ASSERT_EQ(with_model({"logits", "--ids", "1,2,3", "--oracle", "-o", path("oracle.safetensors")}).exit_code,
            0);
  const auto oracle = read_logits(path("oracle.safetensors"), {3, 512});
  ASSERT_EQ(logits.size(), oracle.size());
  // The engine's own tests hold the tight bound; here a wrong row or a wrong order must show.
  for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], oracle[i], 0.02) << i;
}

TEST_F(CliLogits, LeavesNoFileBehindWhenItFails) {
  expect_error(with_model({"logits", "--ids", "1,600", "-o", path("none.safetensors")}), 2, "vocabulary");
  EXPECT_FALSE(std::filesystem::exists(path("none.safetensors")));
  EXPECT_EQ(with_model({"logits", "--ids", "1", "-o", path("absent/x.safetensors")}).exit_code, 1);
}

TEST_F(CliPerplexity, IdsAreOneWindowAsTheyStand) {
  const Json json = json_with_model({"perplexity", "--ids", "1,2,3,4,5"});
  EXPECT_EQ(json["tokens"], 4);
  EXPECT_NEAR(json["perplexity"].get<double>(), std::exp(json["mean_nll"].get<double>()), 1e-6);
}

TEST_F(CliPerplexity, ATextIsPredictedWholeWhateverTheWindow) {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "word" + std::to_string(i) + " ";
  const std::string file = write("text.txt", text);
  const int64_t tokens = json_with_model({"tokenize", "--no-special", "-f", file})["count"];
  EXPECT_EQ(json_with_model({"perplexity", "-f", file})["tokens"], tokens);
  EXPECT_EQ(json_with_model({"perplexity", "-f", file, "--window", "50"})["tokens"], tokens);
  expect_error(with_model({"perplexity", "-f", file, "--window", "500"}), 2, "window");
  expect_error(with_model({"perplexity", "-p", ""}), 2, "empty");
}

}  // namespace
}  // namespace bitnet::testing
