#include "bitnet/io/gguf.h"
#include "cli_test.h"

namespace bitnet::testing {
namespace {

class CliInspect : public CliTest {
 protected:
  static Json inspect(const std::string& model, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"inspect", model, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out);
  }
};

TEST_F(CliInspect, ShowsMetadataTensorsTotalsAndZeroFractions) {
  const Json json = inspect(model());
  EXPECT_EQ(json["metadata"]["general.architecture"], "bitnet-b1.58");
  EXPECT_EQ(json["metadata"]["tokenizer.ggml.tokens"]["length"], 512);
  EXPECT_EQ(json["totals"]["tensors"], json["tensors"].size());
  int64_t bytes = 0;
  for (const Json& tensor : json["tensors"]) bytes += tensor["bytes"].get<int64_t>();
  EXPECT_EQ(json["totals"]["bytes"], bytes);
  ASSERT_EQ(json["ternary"].size(), 14u);  // 7 in each of 2 layers
  for (const Json& matrix : json["ternary"]) {
    EXPECT_GT(matrix["zero_fraction"].get<double>(), 0.0);
    EXPECT_LT(matrix["zero_fraction"].get<double>(), 1.0);
    EXPECT_EQ(matrix["dtype"], "i2_s");
  }
}

TEST_F(CliInspect, ZeroFractionsSurviveConversion) {
  ASSERT_EQ(run_program({"convert", model(), "-o", path("folder")}).exit_code, 0);
  EXPECT_EQ(inspect(path("folder"))["totals"]["zero_fraction"], inspect(model())["totals"]["zero_fraction"]);
}

TEST_F(CliInspect, ShowsSharesOfZerosByLayer) {
  const std::string text = write("text.txt", "Once upon a time there was a model with closed gates.");
  const Json json = inspect(model(), {"--no-zeros", "--activations", text})["activations"];
  ASSERT_EQ(json["layers"].size(), 2u);
  // Random weights close half of the gates, and rounding makes more zeros.
  EXPECT_NEAR(json["closed_gates"].get<double>(), 0.5, 0.1);
  EXPECT_GT(json["zero_inputs"].get<double>(), json["closed_gates"].get<double>());
}

TEST_F(CliInspect, ShowsASafetensorsFileThatIsNoModel) {
  ASSERT_EQ(with_model({"logits", "--ids", "1,2", "-o", path("logits.safetensors")}).exit_code, 0);
  const Json json = inspect(path("logits.safetensors"));
  EXPECT_EQ(json["tensors"][0]["shape"], Json::array({2, 512}));
}

TEST_F(CliInspect, NoZerosReadsHeadersOnly) {
  const Json json = inspect(model(), {"--no-zeros"});
  EXPECT_FALSE(json.contains("ternary"));
  EXPECT_GT(json["tensors"].size(), 0u);
}

TEST_F(CliInspect, PolicyShowsAPlanWithBytesNowAndThen) {
  const Json stored = inspect(model(), {"--no-zeros"});
  const Json json = inspect(model(), {"--policy", "aggressive"});
  EXPECT_FALSE(json.contains("ternary"));
  const Json& plan = json["policy"];
  ASSERT_EQ(plan["tensors"].size(), stored["tensors"].size());
  int64_t then = 0;
  for (const Json& tensor : plan["tensors"]) then += tensor["bytes_then"].get<int64_t>();
  EXPECT_EQ(plan["totals"]["bytes_now"], stored["totals"]["bytes"]);
  EXPECT_EQ(plan["totals"]["bytes_then"], then);
  EXPECT_LT(then, plan["totals"]["bytes_now"].get<int64_t>());
  EXPECT_EQ(plan["components"]["kv_cache"]["dtype"], "qint4");
  const ProgramResult text = run_program({"inspect", model(), "--policy", "balanced"});
  EXPECT_THAT(text.out, HasSubstr("precision plan: balanced"));
  EXPECT_THAT(text.out, HasSubstr("stored in no more bits"));
}

TEST_F(CliInspect, PolicyFilesAreReadAndTheirMistakesNamed) {
  const std::string file = write("policy.json", R"({"rules": [{"when": {"layer": "norm"}, "use": "bf16"}]})");
  const Json plan = inspect(model(), {"--policy", file})["policy"];
  int by_rule = 0;
  for (const Json& tensor : plan["tensors"]) {
    if (tensor["layer"] != "norm") continue;
    EXPECT_EQ(tensor["dtype_then"], "bf16");
    EXPECT_EQ(tensor["decided_by"], "rules[0]");
    ++by_rule;
  }
  EXPECT_GT(by_rule, 0);
  const std::string bad = write("bad.json", R"({"rules": [{"use": "int3"}]})");
  expect_error(run_program({"inspect", model(), "--policy", bad}), 2, "bad.json: rules[0]: unknown format");
  expect_error(run_program({"inspect", model(), "--policy", path("none.json")}), 3, "none.json");
}

TEST_F(CliInspect, TextHoldsNoRawControlBytesFromTheFile) {
  {
    GgufWriter writer(path("hostile.gguf"));
    writer.add("general.name", GgufValue::string("\x1b]0;owned\x07 \xc2\x9b"
                                                 "31m"));
    writer.add("key\x1b[2J", GgufValue::string("x"));
    writer.begin();
    writer.finish();
  }
  const ProgramResult result = run_program({"inspect", path("hostile.gguf")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  for (const char c : result.out) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << int{c};
  EXPECT_THAT(result.out, Not(HasSubstr("\xc2\x9b")));
}

}  // namespace
}  // namespace bitnet::testing
