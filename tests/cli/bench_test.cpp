#include "cli_test.h"

#include <algorithm>
#include <cmath>

namespace bitnet::testing {
namespace {

using CliBench = CliTest;

/// What every quick run here measures: tg2 with one thread, once.
std::vector<std::string> quick(std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"bench", "-p", "0", "-n", "2", "-t", "1", "-r", "1", "--warmup", "0"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// An earlier result in which tg2 ran at this speed.
std::string earlier_result(double speed) {
  const Json json = {
      {"rows", {{{"test", "tg2"}, {"threads", 1}, {"tokens_per_second", {{"median", speed}}}}}}};
  return json.dump();
}

TEST_F(CliBench, MeasuresPrefillAndDecodeForEachThreadCount) {
  const Json json =
      json_with_model({"bench", "-p", "16", "-n", "4", "-t", "1,2", "-r", "2", "--warmup", "0"});
  ASSERT_EQ(json["rows"].size(), 4u);
  EXPECT_EQ(json["rows"][0]["test"], "pp16");
  EXPECT_EQ(json["rows"][1]["test"], "tg4");
  EXPECT_EQ(json["rows"][2]["threads"], 2);
  for (const Json& row : json["rows"]) {
    const Json& speed = row["tokens_per_second"];
    EXPECT_GT(speed["min"].get<double>(), 0);
    EXPECT_LE(speed["min"].get<double>(), speed["median"].get<double>());
    EXPECT_LE(speed["median"].get<double>(), speed["max"].get<double>());
  }
  EXPECT_GT(json["peak_memory_bytes"].get<int64_t>(), 0);
  EXPECT_GT(json["model_bytes"].get<int64_t>(), 0);
  EXPECT_TRUE(json["isa"].is_string());
  EXPECT_TRUE(json["cpu"].is_string());
}

TEST_F(CliBench, SaysWhatWasZeroUnlessNothingIsSkipped) {
  EXPECT_GT(json_with_model(quick({}))["rows"][0]["zeros"]["closed_gates"].get<double>(), 0);
  EXPECT_FALSE(json_with_model(quick({"--no-sparse"}))["rows"][0].contains("zeros"));
}

TEST_F(CliBench, RefusesWhatDoesNotFitTheContext) {
  const ProgramResult result = with_model({"bench", "-p", "512"});
  expect_error(result, 2, "context");
  EXPECT_THAT(result.err, HasSubstr("hint: "));
  expect_error(with_model({"bench", "-p", "0", "-n", "2", "--depth", "127"}), 2, "tg2@127");
  expect_error(with_model({"bench", "-p", "0", "-n", "0"}), 2, "nothing to measure");
}

TEST_F(CliBench, DecodesAtDepthAndInSeveralSequences) {
  const Json json = json_with_model(quick({"--depth", "0,100", "--sequences", "1,3"}));
  std::vector<std::string> names;
  for (const Json& row : json["rows"]) names.push_back(row["test"]);
  EXPECT_EQ(names, (std::vector<std::string>{"tg2", "tg2x3", "tg2@100", "tg2x3@100"}));
  EXPECT_EQ(with_model(quick({"--depth", "9", "--fill-by", "token"})).exit_code, 0);
}

TEST_F(CliBench, RefusesNonsense) {
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{{"--depth", "-1"},
                                                                                    {"--sequences", "0"},
                                                                                    {"--fill-by", "spoon"},
                                                                                    {"--threshold", "3"},
                                                                                    {"-t", "0"}}) {
    EXPECT_EQ(with_model(quick(more)).exit_code, 2) << more.front();
  }
}

TEST_F(CliBench, RooflineGivesEachRowsShareOfTheBound) {
  const Json json = json_with_model(quick({"--roofline"}));
  const Json& machine = json["roofline"].at(0);
  EXPECT_EQ(machine["threads"], 1);
  for (const char* what : {"read_bytes_per_second", "int8_macs_per_second"}) {
    for (const char* when : {"before", "after"}) EXPECT_GT(machine[what][when].get<double>(), 1e6) << what;
  }
  EXPECT_FALSE(machine["int8_instruction"].get<std::string>().empty());
  const Json& row = json["rows"].at(0);
  EXPECT_NEAR(row["bound"]["share"].get<double>() * row["bound"]["tokens_per_second"].get<double>(),
              row["tokens_per_second"]["median"].get<double>(), 1e-3);
  EXPECT_THAT((std::vector<std::string>{"read", "int8"}), ::testing::Contains(row["bound"]["by"]));
}

TEST_F(CliBench, StartupTimesLoadingAndTheFirstTokenOfAProcess) {
  const Json json = json_with_model({"bench", "-p", "0", "-n", "0", "-t", "1", "-r", "1", "--startup"});
  EXPECT_TRUE(json["rows"].empty());
  const Json& warm = json["startup"].at(0);  // whether files can be forgotten depends on the file system
  EXPECT_EQ(warm["state"], "warm");
  EXPECT_EQ(warm["threads"], 1);
  EXPECT_GT(warm["load_seconds"]["median"].get<double>(), 0);
  EXPECT_GT(warm["first_token_seconds"]["median"].get<double>(), 0);
  EXPECT_GT(warm["peak_memory_bytes"].get<int64_t>(), 1 << 20);
}

TEST_F(CliBench, TimesEveryKernelAtTheModelsShapes) {
  const Json json = json_with_model({"bench", "-p", "0", "-n", "0", "-t", "1", "--kernels"});
  const auto has = [&](const std::string& kernel, const std::string& shape) {
    return std::any_of(json["kernels"].begin(), json["kernels"].end(), [&](const Json& row) {
      return row["kernel"] == kernel && row["shape"] == shape && row["seconds"].get<double>() > 0;
    });
  };
  EXPECT_TRUE(has("ternary_matmul", "128x64"));
  EXPECT_TRUE(has("ternary_matmul", "64x128"));
  EXPECT_TRUE(has("dense_matmul f16", "512x64"));
  EXPECT_TRUE(has("quantize", "128"));
  EXPECT_TRUE(has("glu_relu2", "128"));
}

TEST_F(CliBench, CompareExitsWithItsOwnCodeWhenSomethingIsSlower) {
  const std::string fast = write("fast.json", earlier_result(1e12)),
                    slow = write("slow.json", earlier_result(1e-3));
  const ProgramResult slower = with_model(quick({"--json", "--compare", fast}));
  EXPECT_EQ(slower.exit_code, 5);
  const Json comparison = parse_json(slower.out)["comparison"];
  EXPECT_EQ(comparison["slower"], 1);
  EXPECT_EQ(comparison["rows"].at(0)["slower"], true);
  EXPECT_LT(comparison["rows"].at(0)["ratio"].get<double>(), 1);
  EXPECT_EQ(with_model(quick({"--compare", fast, "--threshold", "100"})).exit_code, 0);
  const ProgramResult faster = with_model(quick({"--compare", slow}));
  EXPECT_EQ(faster.exit_code, 0);
  EXPECT_THAT(faster.out, HasSubstr("0 of 1 slower"));
}

TEST_F(CliBench, HistoryComparesWithTheMedianOfRunsLikeThisOneAndGrows) {
  const std::string file = path("history.jsonl");
  const ProgramResult first = with_model(quick({"--json", "--history", file}));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_FALSE(parse_json(first.out).contains("comparison"));
  Json run = parse_json(lines_of(read(file)).at(0));
  EXPECT_THAT(run["time"].get<std::string>(), ::testing::MatchesRegex("[0-9-]+T[0-9:]+Z"));

  // One impossibly slow run does not move the median of three; runs of another machine do not count.
  Json& speed = run["rows"].at(0)["tokens_per_second"]["median"];
  std::string text;
  for (const double value : {1e12, 1e-3, 1e12}) {
    speed = value;
    text += run.dump() + "\n";
  }
  run["cpu"] = "another";
  speed = 1e-3;
  for (int i = 0; i < 20; ++i) text += run.dump() + "\n";
  const std::string known = write("known.jsonl", text);
  const ProgramResult slower = with_model(quick({"--json", "--history", known}));
  EXPECT_EQ(slower.exit_code, 5) << slower.err;
  const Json comparison = parse_json(slower.out)["comparison"];
  EXPECT_EQ(comparison["runs"], 3);
  EXPECT_EQ(comparison["rows"].at(0)["earlier"], 1e12);
  EXPECT_EQ(lines_of(read(known)).size(), 24u);
}

TEST_F(CliBench, HistoryRefusesADamagedFileByLineAndAThresholdAlone) {
  const std::string bad = write("bad.jsonl", earlier_result(1) + "\n{\n");
  expect_error(with_model(quick({"--history", bad})), 3, "line 2 of");
  EXPECT_EQ(lines_of(read(bad)).size(), 2u);
  expect_error(with_model(quick({"--threshold", "3"})), 2, "--history");
}

TEST_F(CliBench, CompareRefusesWhatIsNoResultOrHasNothingInCommon) {
  expect_error(with_model(quick({"--compare", path("absent.json")})), 3);
  expect_error(with_model(quick({"--compare", write("text.json", "tokens")})), 3, "bench --json");
  expect_error(with_model(quick({"--compare", write("empty.json", "{}")})), 3, "bench --json");
  expect_error(with_model(quick({"--compare", write("zero.json", earlier_result(0))})), 3, "not positive");
  expect_error(with_model(quick({"--compare", write("other.json", R"({"rows": []})")})), 2, "none");
}

TEST_F(CliBench, TensorShowsWhichOperationsCopied) {
  const ProgramResult result = run_program({"bench", "tensor", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = parse_json(result.out);
  EXPECT_GE(json["zero_copy_percent"].get<double>(), 80.0);
  EXPECT_GT(json["operations"].size(), 4U);
}

TEST_F(CliBench, TargetsAreMeasuredBesideTheirBaselines) {
  const ProgramResult result = run_program({"bench", "targets", "--quick", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = parse_json(result.out);
  EXPECT_GT(json["targets"].size(), 15U);
  for (const Json& row : json["targets"]) {
    EXPECT_THAT(row["result"].get<std::string>(), ::testing::AnyOf("pass", "fail", "not measured"));
    EXPECT_FALSE(row["reached"].get<std::string>().empty()) << row["target"];
  }
}

}  // namespace
}  // namespace bitnet::testing
