#include "cli_test.h"

#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

namespace bitnet::testing {

std::unique_ptr<TemporaryFolder> CliTest::folder_;

void CliTest::SetUpTestSuite() {
  folder_ = std::make_unique<TemporaryFolder>();
  const ProgramResult result = run_program({"synth", "--hidden", "64", "--intermediate", "128", "--layers",
                                            "2", "--heads", "2", "--kv-heads", "1", "--head-dim", "32",
                                            "--vocab", "512", "--context", "128", "-o", model()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
}

void CliTest::TearDownTestSuite() {
  folder_.reset();
}

std::string CliTest::write(const std::string& name, const std::string& content) {
  std::ofstream(path(name), std::ios::binary) << content;
  return path(name);
}

std::string CliTest::read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

ProgramResult CliTest::with_model(std::vector<std::string> arguments, const ProgramInput& input) {
  arguments.insert(arguments.begin() + 1, {"-m", model()});
  return run_program(arguments, input);
}

Json CliTest::json_with_model(std::vector<std::string> arguments, const ProgramInput& input) {
  arguments.emplace_back("--json");
  const ProgramResult result = with_model(std::move(arguments), input);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  Json json = Json::parse(result.out, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << result.out;
  return json;
}

Json parse_json(const std::string& text) {
  return Json::parse(text);
}

void expect_error(const ProgramResult& result, int exit_code, const std::string& message) {
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  EXPECT_THAT(result.err, StartsWith("bitnet: error: "));
  EXPECT_THAT(result.err, HasSubstr(message));
  EXPECT_THAT(result.out, IsEmpty());
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string joined(const Json& numbers, char separator) {
  std::string text;
  for (const Json& number : numbers) {
    if (!text.empty()) text += separator;
    text += number.dump();
  }
  return text;
}

}  // namespace bitnet::testing
