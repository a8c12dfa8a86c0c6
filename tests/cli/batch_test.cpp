#include "cli_test.h"

#include <algorithm>
#include <csignal>

namespace bitnet::testing {
namespace {

class CliBatch : public CliTest {
 protected:
  static ProgramResult batch(const std::string& input, const std::string& output,
                             std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"batch", "-i", input,      "-o",          output,
                                          "-n",    "4",  "--greedy", "--ignore-eos"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return with_model(arguments);
  }
  static std::vector<Json> rows(const std::string& output) {
    std::vector<Json> result;
    for (const std::string& line : lines_of(read(output))) result.push_back(parse_json(line));
    return result;
  }
};

TEST_F(CliBatch, EveryInputFormatGivesTheSameRows) {
  const std::string text = write("in.txt", "One\nTwo, with a comma\n");
  const std::string json =
      write("in.jsonl", "{\"prompt\": \"One\"}\n\n{\"prompt\": \"Two, with a comma\"}\n");
  const std::string csv = write("in.csv", "id,prompt\r\n1,One\r\n2,\"Two, with a comma\"\r\n");
  const std::string bare = write("bare.csv", "One\n\"Two, with a comma\"\n");
  std::vector<std::string> outputs;
  for (const std::string& input : {text, json, csv, bare}) {
    const std::string output = input + ".jsonl";
    const ProgramResult result = batch(input, output);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("2 rows"));
    outputs.push_back(read(output));
  }
  EXPECT_EQ(std::count(outputs.begin(), outputs.end(), outputs.front()), 4);
  const auto first = rows(text + ".jsonl");
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[1]["row"], 2);
  EXPECT_EQ(first[1]["prompt"], "Two, with a comma");
  EXPECT_EQ(first[1]["stop_reason"], "length");
  EXPECT_EQ(first[1]["tokens"], 4);
}

TEST_F(CliBatch, ARowDoesNotDependOnTheRowsBeforeIt) {
  const std::string both = write("both.txt", "One\nTwo\n");
  const std::string alone = write("alone.txt", "Two\n");
  ASSERT_EQ(batch(both, path("both.jsonl"), {"--repeat-penalty", "1.3"}).exit_code, 0);
  ASSERT_EQ(batch(alone, path("alone.jsonl"), {"--repeat-penalty", "1.3"}).exit_code, 0);
  EXPECT_EQ(rows(path("both.jsonl"))[1]["text"], rows(path("alone.jsonl"))[0]["text"]);
}

TEST_F(CliBatch, BadRowsAreReportedAndTheRestGoesOn) {
  const std::string too_long(1000, 'x');
  const std::string input = write("bad.jsonl",
                                  "{\"prompt\": \"fine\", \"id\": \"a\"}\n"
                                  "{\"prompt\": \n"
                                  "{\"text\": \"no prompt\"}\n"
                                  "{\"prompt\": 5}\n"
                                  "[1]\n"
                                  "{\"prompt\": \"caf\xe9\"}\n"
                                  "{\"prompt\": \"" +
                                      too_long +
                                      "\"}\n"
                                      "{\"prompt\": \"fine too\"}\n");
  const ProgramResult result = batch(input, path("bad-out.jsonl"));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("row 2 (line 2)"));
  EXPECT_THAT(result.err, HasSubstr("6 failed"));
  const auto out = rows(path("bad-out.jsonl"));
  ASSERT_EQ(out.size(), 8u);
  EXPECT_EQ(out[0]["id"], "a");
  for (size_t i = 0; i < out.size(); ++i) {
    const bool good = i == 0 || i == 7;
    EXPECT_EQ(out[i].contains("text"), good) << i;
    EXPECT_EQ(out[i].contains("error"), !good) << i;
  }
  EXPECT_THAT(out[5]["error"].get<std::string>(), HasSubstr("UTF-8"));
}

TEST_F(CliBatch, CsvFollowsRfc4180BothWays) {
  const std::string input =
      write("quotes.csv",
            "prompt,note\r\n\"a \"\"quoted\"\" word,\r\nand a newline\",x\r\nplain,y\r\n"
            "\"torn\" quotes,z\r\nlast,w\r\n");
  const ProgramResult result = batch(input, path("quotes-out.csv"));
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("row 3 (line 5)"));
  const std::string out = read(path("quotes-out.csv"));
  EXPECT_THAT(out, StartsWith("row,prompt,text,stop_reason,prompt_tokens,tokens,error\r\n"));
  EXPECT_THAT(out, HasSubstr("1,\"a \"\"quoted\"\" word,\r\nand a newline\","));
  EXPECT_THAT(out, HasSubstr("\r\n4,last,"));
}

TEST_F(CliBatch, TextOutputHoldsOneLineForEachRow) {
  const std::string input = write("three.txt", "One\nTwo\nThree\n");
  ASSERT_EQ(batch(input, path("three-out.txt")).exit_code, 0);
  EXPECT_EQ(lines_of(read(path("three-out.txt"))).size(), 3u);
}

TEST_F(CliBatch, ResumeKeepsWholeRowsAndGoesOnAfterThem) {
  for (const std::string extension : {"jsonl", "csv", "txt"}) {
    const std::string input = write("resume.txt", "One\nTwo\nThree\nFour\n");
    const std::string whole = path("whole." + extension), torn = path("torn." + extension);
    ASSERT_EQ(batch(input, whole).exit_code, 0);
    const std::string expected = read(whole);
    for (const size_t cut :
         {size_t{0}, size_t{3}, expected.size() / 2, expected.size() - 1, expected.size()}) {
      write("torn." + extension, expected.substr(0, cut));
      const ProgramResult result = batch(input, torn, {"--resume"});
      EXPECT_EQ(result.exit_code, 0) << result.err;
      EXPECT_EQ(read(torn), expected) << extension << " cut at " << cut;
    }
  }
}

TEST_F(CliBatch, AnExistingOutputIsNeitherOverwrittenNorTakenForOurs) {
  const std::string input = write("guard.txt", "One\n");
  const std::string output = write("guard.jsonl", "{\"mine\": true}\n");
  EXPECT_EQ(batch(input, output).exit_code, 2);
  EXPECT_EQ(batch(input, output, {"--resume"}).exit_code, 3);
  EXPECT_EQ(read(output), "{\"mine\": true}\n");
  EXPECT_EQ(batch(input, output, {"--overwrite"}).exit_code, 0);
  EXPECT_EQ(rows(output).size(), 1u);
}

TEST_F(CliBatch, ResumeRemembersFailures) {
  const std::string input = write("failing.jsonl", "{}\n{\"prompt\": \"fine\"}\n");
  EXPECT_EQ(batch(input, path("failing-out.jsonl")).exit_code, 1);
  const ProgramResult again = batch(input, path("failing-out.jsonl"), {"--resume"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("0 rows"));
}

TEST_F(CliBatch, AnInterruptLosesAtMostTheCurrentRow) {
  std::string lines;
  for (int i = 0; i < 5000; ++i) lines += "Prompt " + std::to_string(i) + "\n";
  const std::string input = write("many.txt", lines), output = path("many.jsonl");
  RunningProgram program(
      {"batch", "-m", model(), "-i", input, "-o", output, "-n", "40", "--greedy", "--ignore-eos"});
  while (!std::filesystem::exists(output) || std::filesystem::file_size(output) < 100) continue;
  program.send_signal(SIGINT);
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_THAT(result.err, HasSubstr("--resume"));
  const auto kept = rows(output);
  EXPECT_GE(kept.size(), 1u);
  EXPECT_LT(kept.size(), 5000u);
}

TEST_F(CliBatch, UsageIsChecked) {
  const std::string input = write("usage.txt", "One\n");
  EXPECT_EQ(batch(input, path("out.xlsx")).exit_code, 2);
  EXPECT_EQ(batch(write("usage.xlsx", "One\n"), path("out.txt")).exit_code, 2);
  EXPECT_EQ(batch(input, path("absent/out.txt")).exit_code, 1);
}

TEST_F(CliBatch, JsonSummarizes) {
  const std::string input = write("summary.txt", "One\nTwo\n");
  const Json json = json_with_model({"batch", "-i", input, "-o", path("summary.jsonl"), "-n", "1"});
  EXPECT_EQ(json["rows"], 2);
  EXPECT_EQ(json["failed"], 0);
}

}  // namespace
}  // namespace bitnet::testing
