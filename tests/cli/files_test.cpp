#include "cli_test.h"

#include <algorithm>

namespace bitnet::testing {
namespace {

using CliSynth = CliTest;
using CliConvert = CliTest;

TEST_F(CliSynth, ListsItsPresets) {
  const ProgramResult result = run_program({"synth", "--list", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json presets = parse_json(result.out)["presets"];
  EXPECT_NE(std::find(presets.begin(), presets.end(), "bitnet-b1.58-2b-4t"), presets.end());
}

TEST_F(CliSynth, TheSeedDecidesTheWeights) {
  const auto synth = [](const char* seed, const char* name) {
    EXPECT_EQ(run_program({"synth", "--layers", "1", "--seed", seed, "-o", path(name)}).exit_code, 0);
    return read(path(name));
  };
  const std::string one = synth("1", "a.gguf");
  EXPECT_EQ(one, synth("1", "b.gguf"));
  EXPECT_NE(one, synth("2", "c.gguf"));
}

TEST_F(CliSynth, UsageIsChecked) {
  expect_error(run_program({"synth", "--preset", "abacus", "-o", path("x.gguf")}), 2, "abacus");
  expect_error(run_program({"synth", "--heads", "3", "--kv-heads", "2", "-o", path("x.gguf")}), 2);
  expect_error(run_program({"synth"}), 2, "-o");
  EXPECT_FALSE(std::filesystem::exists(path("x.gguf")));
}

TEST_F(CliConvert, ThereAndBackIsLossless) {
  const ProgramResult there = run_program({"convert", model(), "-o", path("folder"), "--json"});
  ASSERT_EQ(there.exit_code, 0) << there.err;
  EXPECT_EQ(parse_json(there.out)["lossless"], true);
  const ProgramResult back = run_program({"convert", path("folder"), "-o", path("back.gguf"), "--json"});
  ASSERT_EQ(back.exit_code, 0) << back.err;
  EXPECT_EQ(parse_json(back.out)["lossless"], true);
  const auto ids = [](const std::string& name) {
    const ProgramResult result =
        run_program({"run", "-m", name, "--ids", "1,2,3", "-n", "16", "--greedy", "--ignore-eos", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out)["ids"];
  };
  EXPECT_EQ(ids(path("back.gguf")), ids(model()));
}

TEST_F(CliConvert, SaysWhatWasLost) {
  const ProgramResult result =
      run_program({"convert", model(), "-o", path("lossy.gguf"), "--embedding", "q8_0", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = parse_json(result.out);
  EXPECT_EQ(json["lossless"], false);
  EXPECT_GE(json["losses"].size(), 1u);
}

TEST_F(CliConvert, ARowLengthThatTheFormatCannotHoldIsRefusedByName) {
  // TQ1_0 holds rows in blocks of 256; the model's have 64 and 128.
  const ProgramResult result = run_program({"convert", model(), "-o", path("tq.gguf"), "--type", "tq1_0"});
  expect_error(result, 4, "blk.0");
  EXPECT_FALSE(std::filesystem::exists(path("tq.gguf")));
}

TEST_F(CliConvert, UsageIsChecked) {
  expect_error(run_program({"convert", model(), "-o", path("x.gguf"), "--type", "packed"}), 2, "packed");
  expect_error(run_program({"convert", model(), "-o", path("x.gguf"), "--type", "q3"}), 2);
}

}  // namespace
}  // namespace bitnet::testing
