#include "cli_test.h"

#include <csignal>

namespace bitnet::testing {
namespace {

using CliRun = CliTest;

TEST_F(CliRun, StreamsTextAndThenItsSpeedOnStandardError) {
  const ProgramResult result = with_model({"run", "-p", "Hello", "-n", "8", "--greedy", "--ignore-eos"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(result.out.ends_with("\n"));
  EXPECT_THAT(result.err, StartsWith("prefill "));
  EXPECT_THAT(result.err, HasSubstr("decode "));
  EXPECT_EQ(lines_of(result.err).size(), 1u);
  EXPECT_THAT(result.out + result.err, Not(HasSubstr("\033"))) << "colour where there is no terminal";
}

TEST_F(CliRun, JsonIsOneObjectWithEverything) {
  const Json json = json_with_model({"run", "-p", "Hello", "-n", "8", "--greedy", "--ignore-eos", "-t", "1"});
  for (const char* key : {"prompt_ids", "ids", "text", "stop_reason", "prefill_tokens_per_second",
                          "decode_tokens_per_second", "threads", "isa", "model"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["ids"].size(), 8u);
  EXPECT_EQ(json["stop_reason"], "length");
  EXPECT_EQ(json["threads"], 1);
  EXPECT_EQ(json["model"], model());
}

TEST_F(CliRun, StreamedTextIsTheTextOfJson) {
  const std::vector<std::string> arguments = {"run", "-p",     "Hello", "-n",
                                              "16",  "--seed", "3",     "--ignore-eos"};
  const Json json = json_with_model(arguments);
  // A broken character may come out of random weights; JSON holds it as U+FFFD just as the stream does.
  EXPECT_EQ(with_model(arguments).out, json["text"].get<std::string>() + "\n");
}

TEST_F(CliRun, TheSameSeedGivesTheSameTextWithAnyThreadCount) {
  const auto ids = [](const char* seed, const char* threads) {
    return json_with_model(
        {"run", "-p", "Hello", "-n", "24", "--ignore-eos", "--seed", seed, "-t", threads})["ids"];
  };
  EXPECT_EQ(ids("7", "1"), ids("7", "3"));
  EXPECT_NE(ids("7", "1"), ids("8", "1"));
}

TEST_F(CliRun, PromptsComeFromTextFileIdsAndStandardInputAlike) {
  const Json from_text = json_with_model({"run", "-p", "Hello you", "-n", "0"})["prompt_ids"];
  const std::string file = write("prompt.txt", "Hello you\n");
  EXPECT_EQ(json_with_model({"run", "-f", file, "-n", "0"})["prompt_ids"], from_text);
  const ProgramInput input{.standard_input = "Hello you\n", .environment = {}, .stdout_path = {}};
  EXPECT_EQ(json_with_model({"run", "-n", "0"}, input)["prompt_ids"], from_text);
  EXPECT_EQ(json_with_model({"run", "-f", "-", "-n", "0"}, input)["prompt_ids"], from_text);
  EXPECT_EQ(json_with_model({"run", "--ids", joined(from_text), "-n", "0"})["prompt_ids"], from_text);
}

TEST_F(CliRun, TextThatLooksLikeAnOptionOrAListIsText) {
  for (const char* text : {"-x", "--", "[a,b]", "{}", "a,b", "--json"}) {
    const ProgramResult result = with_model({"run", "-p", text, "-n", "0"});
    EXPECT_EQ(result.exit_code, 0) << text << ": " << result.err;
    EXPECT_EQ(json_with_model({"run", "-p", text, "-n", "0"})["prompt_ids"],
              json_with_model({"run", "-n", "0"},
                              {.standard_input = text, .environment = {}, .stdout_path = {}})["prompt_ids"])
        << text;
  }
}

TEST_F(CliRun, AnEmptyPromptStartsFromBosOrIsAUsageError) {
  EXPECT_EQ(json_with_model({"run", "-p", "", "-n", "2"})["prompt_ids"].size(), 1u);
  expect_error(with_model({"run", "-p", "", "--no-bos"}), 2, "empty");
}

TEST_F(CliRun, StopsAtStopStringsAndLogitBiasForbidsTokens) {
  const Json plain = json_with_model({"run", "-p", "Hello", "-n", "16", "--greedy", "--ignore-eos"});
  const std::string first = plain["ids"][0].dump();
  const Json biased = json_with_model(
      {"run", "-p", "Hello", "-n", "16", "--greedy", "--ignore-eos", "--logit-bias", first + "=-inf"});
  for (const Json& id : biased["ids"]) EXPECT_NE(id.dump(), first);
  const std::string text = plain["text"];
  size_t at = 0;  // an ASCII character of the text, to stop at
  while (at < text.size() && (text[at] < 'A' || text[at] > 'z')) ++at;
  if (at == text.size()) GTEST_SKIP() << "the random model wrote no letter";
  const Json stopped = json_with_model({"run", "-p", "Hello", "-n", "16", "--greedy", "--ignore-eos",
                                        "--stop", text.substr(at, 1), "--stop", "[END]"});
  EXPECT_EQ(stopped["stop_reason"], "stop_string");
  EXPECT_EQ(stopped["text"], text.substr(0, text.find(text[at])));
}

TEST_F(CliRun, AFullContextStopsOrShifts) {
  const Json full = json_with_model({"run", "--ids", "1,2,3", "-n", "60", "--ignore-eos", "--context", "32"});
  EXPECT_EQ(full["stop_reason"], "context");
  const Json shifted = json_with_model({"run", "--ids", "1,2,3", "-n", "60", "--ignore-eos", "--context",
                                        "32", "--context-shift", "--kv", "f16"});
  EXPECT_EQ(shifted["stop_reason"], "length");
  EXPECT_EQ(shifted["ids"].size(), 60u);
}

TEST_F(CliRun, GuessesAndTheExactHeadDoNotChangeTheText) {
  const std::vector<std::string> plain{"run", "--ids",    "1,2,3,1,2,3,1,2", "-n",
                                       "30",  "--greedy", "--ignore-eos"};
  const Json expected = json_with_model(plain);
  EXPECT_FALSE(expected.contains("drafted_tokens"));
  std::vector<std::string> guessing = plain, exact = plain;
  guessing.insert(guessing.end(), {"--speculate", "4"});
  exact.push_back("--exact-head");
  const Json guessed = json_with_model(guessing);
  EXPECT_EQ(guessed["ids"], expected["ids"]);
  EXPECT_GT(guessed["drafted_tokens"].get<int>(), 0);
  EXPECT_LE(guessed["accepted_tokens"].get<int>(), guessed["drafted_tokens"].get<int>());
  EXPECT_EQ(json_with_model(exact)["ids"], expected["ids"]);
}

TEST_F(CliRun, APromptCacheSavesTheCommonPrefix) {
  const auto run = [&](const std::string& ids) {
    return json_with_model(
        {"run", "--ids", ids, "-n", "8", "--greedy", "--ignore-eos", "--prompt-cache", path("prompt.kv")});
  };
  const Json first = run("1,2,3,4,5");
  EXPECT_EQ(first["reused_tokens"], 0);
  const Json again = run("1,2,3,4,5");
  EXPECT_EQ(again["reused_tokens"], 4);
  EXPECT_EQ(again["ids"], first["ids"]);
  const Json other = run("1,2,3,9,9,9");
  EXPECT_EQ(other["reused_tokens"], 3);
  EXPECT_EQ(other["ids"],
            json_with_model({"run", "--ids", "1,2,3,9,9,9", "-n", "8", "--greedy", "--ignore-eos"})["ids"]);
  EXPECT_EQ(run("1,2,3,9,9,9,8")["reused_tokens"], 6);
  expect_error(
      run_program({"run", "-m", model(), "--ids", "1,2", "--kv", "f16", "--prompt-cache", path("prompt.kv")}),
      4, "another type");
}

TEST_F(CliRun, AWeightsCacheChangesNoToken) {
  const std::vector<std::string> plain = {"run", "--ids", "1,2,3,4,5", "-n", "8", "--greedy", "--ignore-eos"};
  std::vector<std::string> cached = plain;
  cached.insert(cached.end(), {"--weights-cache", path("weights")});
  const Json expected = json_with_model(plain)["ids"];
  EXPECT_EQ(json_with_model(cached)["ids"], expected);  // writes it
  EXPECT_EQ(json_with_model(cached)["ids"], expected);  // reads it
  std::filesystem::resize_file(path("weights"), 1000);
  cached.insert(cached.end(), {"-m", model()});
  expect_error(run_program(cached), 3, "not a usable weights cache");
}

TEST_F(CliRun, AModelWithoutATokenizerRunsFromIds) {
  ASSERT_EQ(run_program({"convert", model(), "-o", path("bare")}).exit_code, 0);
  std::filesystem::remove(path("bare/tokenizer.json"));
  std::filesystem::remove(path("bare/tokenizer_config.json"));
  const ProgramResult result =
      run_program({"run", "-m", path("bare"), "--ids", "1,2,3", "-n", "4", "--greedy", "--ignore-eos"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const Json expected = json_with_model({"run", "--ids", "1,2,3", "-n", "4", "--greedy", "--ignore-eos"});
  EXPECT_EQ(result.out, joined(expected["ids"], ' ') + "\n");
  expect_error(run_program({"run", "-m", path("bare"), "-p", "Hello"}), 4, "tokenizer");
}

TEST_F(CliRun, AnInterruptStopsCleanlyWithOneHundredAndThirty) {
  RunningProgram program(
      {"run", "-m", model(), "--ids", "1,2,3", "-n", "-1", "--ignore-eos", "--context-shift"});
  program.wait_for_output(1);
  program.send_signal(SIGINT);
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr("tokens/s"));
  EXPECT_THAT(result.err, HasSubstr("cancelled"));
}

TEST_F(CliRun, AReaderThatGoesAwayEndsTheProgramQuietly) {
  RunningProgram program(
      {"run", "-m", model(), "--ids", "1,2,3", "-n", "-1", "--ignore-eos", "--context-shift"});
  program.wait_for_output(1);
  program.close_output();
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 128 + SIGPIPE);
  EXPECT_THAT(result.err, IsEmpty());
}

TEST_F(CliRun, TheModelComesFromTheEnvironmentWhenNoneIsNamed) {
  const ProgramInput input{
      .standard_input = {}, .environment = {{"BITNET_MODEL", model()}}, .stdout_path = {}};
  const ProgramResult result = run_program({"run", "--ids", "1", "-n", "1", "--json"}, input);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(parse_json(result.out)["model"], model());
}

TEST_F(CliRun, VerboseShowsTheLogOnStandardErrorOnly) {
  const ProgramResult quiet = with_model({"run", "--ids", "1", "-n", "1", "--json"});
  EXPECT_THAT(quiet.err, IsEmpty());
  const ProgramResult verbose = with_model({"run", "--ids", "1", "-n", "1", "--json", "--verbose"});
  EXPECT_EQ(verbose.exit_code, 0);
  EXPECT_NO_THROW(parse_json(verbose.out));
}

}  // namespace
}  // namespace bitnet::testing
