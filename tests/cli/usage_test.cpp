#include "cli_test.h"

namespace bitnet::testing {
namespace {

constexpr const char* kCommands[] = {"run",    "chat",       "batch", "tokenize", "inspect", "info",
                                     "logits", "perplexity", "bench", "synth",    "convert"};

TEST(CliUsage, VersionIsPrintedAsTextAndAsJson) {
  const ProgramResult text = run_program({"--version"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.out, StartsWith("bitnet "));
  const ProgramResult json = run_program({"--version", "--json"});
  EXPECT_EQ(json.exit_code, 0);
  EXPECT_TRUE(parse_json(json.out).contains("version"));
}

TEST(CliUsage, EveryCommandHasHelpWithExamplesAndJson) {
  for (const char* command : kCommands) {
    const ProgramResult help = run_program({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("Examples:")) << command;
    EXPECT_THAT(help.out, HasSubstr("--json")) << command;
    EXPECT_THAT(help.err, IsEmpty()) << command;
  }
}

TEST(CliUsage, UsageErrorsExitWithTwo) {
  expect_error(run_program({}), 2, "a command is needed");
  expect_error(run_program({"frobnicate"}), 2, "frobnicate");
  expect_error(run_program({"run", "--frobnicate"}), 2, "--frobnicate");
  expect_error(run_program({"run", "-n", "many", "-p", "x"}), 2);
  expect_error(run_program({"run", "-n", "-2", "-p", "x"}), 2);
  expect_error(run_program({"run", "-t", "-1", "-p", "x"}), 2);
  expect_error(run_program({"run", "-p", "x", "--ids", "1"}), 2);
  expect_error(run_program({"run", "-p", "x", "--kv", "f8"}), 2);
  expect_error(run_program({"run", "-p", "x", "--greedy", "--temp", "1"}), 2);
  expect_error(run_program({"convert", "x.gguf"}), 2, "--output");
}

TEST(CliUsage, AHintFollowsTheError) {
  const ProgramResult result = run_program({"run", "--frobnicate"});
  const auto lines = lines_of(result.err);
  ASSERT_EQ(lines.size(), 2u) << result.err;
  EXPECT_THAT(lines[1], StartsWith("hint: "));
}

TEST(CliUsage, InfoDescribesMachineBuildAndKernels) {
  const ProgramResult result = run_program({"info", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = parse_json(result.out);
  EXPECT_TRUE(json["build"]["compiler"].is_string());
  EXPECT_TRUE(json["cpu"]["features"]["avx2"].is_boolean());
  EXPECT_EQ(json["isas"].back(), "scalar");
  EXPECT_NE(std::find(json["isas"].begin(), json["isas"].end(), json["isa"]), json["isas"].end());
  EXPECT_GE(json["threads"].get<int>(), 1);
  EXPECT_GT(json["memory"]["total_bytes"].get<int64_t>(), 0);
  EXPECT_EQ(parse_json(run_program({"info", "--json", "--isa", "scalar"}).out)["isa"], "scalar");
  EXPECT_EQ(parse_json(run_program({"info", "--json"}, {.standard_input = {},
                                                        .environment = {{"BITNET_ISA", "scalar"}},
                                                        .stdout_path = {}})
                           .out)["isa"],
            "scalar");
}

TEST(CliUsage, AFullStandardOutputIsAFailure) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"info"}, {"--help"}, {"--version"}, {"synth", "--list"}}) {
    const ProgramResult result =
        run_program(arguments, {.standard_input = {}, .environment = {}, .stdout_path = "/dev/full"});
    expect_error(result, 1, "standard output");
  }
}

using CliExitCode = CliTest;

TEST_F(CliExitCode, MissingFilesExitWithThree) {
  expect_error(run_program({"run", "-m", path("absent.gguf"), "-p", "x"}), 3, "absent.gguf");
  expect_error(run_program({"inspect", path("absent.gguf")}), 3, "absent.gguf");
  expect_error(run_program({"convert", path("absent.gguf"), "-o", path("out.gguf")}), 3, "absent.gguf");
  expect_error(with_model({"run", "-f", path("absent.txt")}), 3, "absent.txt");
  expect_error(with_model({"batch", "-i", path("absent.txt"), "-o", path("out.txt")}), 3, "absent.txt");
}

TEST_F(CliExitCode, CorruptFilesExitWithThree) {
  const std::string whole = read(model());
  const std::string cut = write("cut.gguf", whole.substr(0, whole.size() / 2));
  const std::string text = write("text.gguf", "this is no model");
  const std::string empty = write("empty.gguf", "");
  for (const std::string& file : {cut, text, empty}) {
    expect_error(run_program({"run", "-m", file, "-p", "x"}), 3);
    expect_error(run_program({"inspect", file}), 3);
    expect_error(run_program({"tokenize", "-m", file, "-p", "x"}), 3);
    expect_error(run_program({"convert", file, "-o", path("out.gguf")}), 3);
  }
  EXPECT_FALSE(std::filesystem::exists(path("out.gguf")));
}

TEST_F(CliExitCode, AnUnknownInstructionSetExitsWithFour) {
  expect_error(run_program({"info", "--isa", "abacus"}), 4, "abacus");
  expect_error(with_model({"run", "--ids", "1", "--isa", "abacus"}), 4, "abacus");
  expect_error(
      with_model({"run", "--ids", "1"},
                 {.standard_input = {}, .environment = {{"BITNET_ISA", "abacus"}}, .stdout_path = {}}),
      4, "abacus");
}

TEST_F(CliExitCode, AFailureWhileWorkingExitsWithOne) {
  std::string ids = "1";
  for (int i = 0; i < 200; ++i) ids += ",1";
  expect_error(with_model({"run", "--ids", ids}), 1);  // longer than the context
  expect_error(with_model({"run", "--ids", "1", "--json"},
                          {.standard_input = {}, .environment = {}, .stdout_path = "/dev/full"}),
               1, "standard output");
  expect_error(with_model({"run", "-f", path(".")}), 1);
}

TEST_F(CliExitCode, BadValuesExitWithTwo) {
  for (const char* ids : {"1,,2", "1,2,", ",1", "x", "-1", "1.5", "99999999999", ""}) {
    expect_error(with_model({"run", "--ids", ids}), 2);
  }
  expect_error(with_model({"run", "--ids", "512"}), 2, "vocabulary of 512");
  expect_error(with_model({"run", "-p", "x", "--top-p", "2"}), 2);
  expect_error(with_model({"run", "-p", "x", "--logit-bias", "5"}), 2, "ID=VALUE");
  expect_error(with_model({"run", "-p", "x", "--template", "abacus"}), 2, "abacus");
  expect_error(with_model({"run", "-p", "x", "--context", "4096"}), 2);
}

}  // namespace
}  // namespace bitnet::testing
