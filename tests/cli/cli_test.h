#pragma once

#include "program.h"
#include "temporary_folder.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace bitnet::testing {

using Json = nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

/// Throws on what is no JSON. A function, because compiling the parser takes seconds.
Json parse_json(const std::string& text);

/// A folder with a tiny model (hidden 64, 2 layers, vocabulary 512, context 128) that `bitnet synth` made.
class CliTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

  [[nodiscard]] static std::string model() { return path("tiny.gguf"); }
  [[nodiscard]] static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  static std::string write(const std::string& name, const std::string& content);
  [[nodiscard]] static std::string read(const std::string& path);
  /// Runs the command with -m model() right after its name.
  static ProgramResult with_model(std::vector<std::string> arguments, const ProgramInput& input = {});
  /// with_model and --json, expected to succeed.
  static Json json_with_model(std::vector<std::string> arguments, const ProgramInput& input = {});

 private:
  static std::unique_ptr<TemporaryFolder> folder_;
};

/// Exit code, the form "bitnet: error: ...", and nothing on standard output.
void expect_error(const ProgramResult& result, int exit_code, const std::string& message = "");

[[nodiscard]] std::vector<std::string> lines_of(const std::string& text);
/// A JSON array of numbers as "1,2,3".
[[nodiscard]] std::string joined(const Json& numbers, char separator = ',');

}  // namespace bitnet::testing
