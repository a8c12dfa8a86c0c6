#include "cli_test.h"

#include <csignal>

namespace bitnet::testing {
namespace {

class CliChat : public CliTest {
 protected:
  /// A chat over a pipe, with the template that any vocabulary can spell.
  static ProgramResult chat(const std::string& input, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"chat", "--template", "none",        "-n",
                                          "8",    "--greedy",   "--ignore-eos"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return with_model(arguments, {.standard_input = input, .environment = {}, .stdout_path = {}});
  }
};

TEST_F(CliChat, AnswersEachLineOfAPipe) {
  const ProgramResult result = chat("Hello\nAnd then?\n", {"--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto lines = lines_of(result.out);
  ASSERT_EQ(lines.size(), 2u);
  for (const std::string& line : lines) {
    const Json json = parse_json(line);
    EXPECT_EQ(json["role"], "assistant");
    EXPECT_TRUE(json["content"].is_string());
    EXPECT_EQ(json["tokens"], 8);
  }
  EXPECT_GT(parse_json(lines[1])["reused_tokens"].get<int>(), 0)
      << "the cache of the first turn was not kept";
}

TEST_F(CliChat, TheCacheDoesNotChangeTheAnswer) {
  const auto last_answer = [](const ProgramResult& result) {
    return parse_json(lines_of(result.out).back())["content"].get<std::string>();
  };
  const ProgramResult first = chat("Hello\n/save " + path("one.json") + "\nAnd then?\n", {"--json"});
  const ProgramResult fresh = chat("/load " + path("one.json") + "\nAnd then?\n", {"--json"});
  EXPECT_EQ(last_answer(first), last_answer(fresh));
}

TEST_F(CliChat, SavesLoadsUndoesAndClears) {
  const ProgramResult result = chat(
      "Hello\nAgain\n/undo\n/save " + path("talk.json") + "\n/clear\n/history\n", {"--system", "Be brief."});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json saved = parse_json(read(path("talk.json")));
  ASSERT_EQ(saved["messages"].size(), 3u);
  EXPECT_EQ(saved["messages"][0]["role"], "system");
  EXPECT_EQ(saved["messages"][1]["content"], "Hello");
  EXPECT_TRUE(result.out.ends_with("system: Be brief.\n")) << result.out;
  const ProgramResult loaded = chat("/load " + path("talk.json") + "\n/history\n");
  EXPECT_THAT(loaded.out, HasSubstr("user: Hello\n"));
}

TEST_F(CliChat, ABadLineIsReportedAndTheRestGoesOn) {
  const std::string broken = write("broken.json", R"({"messages": [{"role": "user"}]})");
  for (const std::string& line :
       {std::string("/frobnicate"), "/load " + path("absent.json"), "/load " + broken, std::string("/save"),
        std::string("/undo"), std::string("caf\xe9")}) {
    const ProgramResult result = chat(line + "\nHello\n", {"--json"});
    EXPECT_EQ(result.exit_code, 1) << line;
    EXPECT_THAT(result.err, StartsWith("bitnet: error: ")) << line;
    EXPECT_EQ(lines_of(result.out).size(), 1u) << line;
  }
}

TEST_F(CliChat, ExitHelpAndStatsWork) {
  const ProgramResult result = chat("/help\nHello\n/stats\n/exit\nnot read\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("/history"));
  EXPECT_THAT(result.out, HasSubstr("context "));
}

TEST_F(CliChat, AFullContextIsReportedOrTheOldestTurnsAreForgotten) {
  std::string lines;
  for (int i = 0; i < 12; ++i) lines += "Tell me something about the sea and the ships\n";
  const ProgramResult full = chat(lines, {"--json"});
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.err, HasSubstr("/clear"));
  const ProgramResult shifted = chat(lines, {"--json", "--context-shift"});
  EXPECT_EQ(shifted.exit_code, 0) << shifted.err;
  EXPECT_EQ(lines_of(shifted.out).size(), 12u);
}

TEST_F(CliChat, AnInterruptStopsTheAnswerAndNotTheProgram) {
  std::vector<std::string> arguments = {"chat", "-m", model(),           "--template",  "none",
                                        "-n",   "-1", "--context-shift", "--ignore-eos"};
  RunningProgram program(arguments,
                         {.standard_input = "Hello\n/stats\n", .environment = {}, .stdout_path = {}});
  program.wait_for_output(1);
  program.send_signal(SIGINT);
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("(stopped)"));
  EXPECT_THAT(result.out, HasSubstr("context ")) << "the line after the answer was not read";
}

TEST_F(CliChat, ATemplateThatTheVocabularyCannotSpellIsAnErrorWithAHint) {
  const ProgramResult result = with_model({"chat", "--template", "chatml"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("hint: "));
}

}  // namespace
}  // namespace bitnet::testing
