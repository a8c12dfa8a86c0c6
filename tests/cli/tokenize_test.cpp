#include "bitnet/io/gguf.h"
#include "bitnet/tokenizer/tokenizer.h"
#include "cli_test.h"

namespace bitnet::testing {
namespace {

using CliTokenize = CliTest;

TEST_F(CliTokenize, TextBecomesTokensAndBack) {
  for (const std::string text :
       {"Hello, world", "a\nb\tc", "na\xc3\xafve \xf0\x9f\x98\x80", "  two  spaces "}) {
    const Json json = json_with_model({"tokenize", "-p", text, "--no-special"});
    EXPECT_EQ(json["count"], json["ids"].size());
    EXPECT_EQ(json["tokens"].size(), json["ids"].size());
    EXPECT_EQ(json_with_model({"tokenize", "--decode", "--ids", joined(json["ids"])})["text"], text);
  }
}

TEST_F(CliTokenize, NoSpecialLeavesBosOut) {
  const Json with = json_with_model({"tokenize", "-p", "Hello"});
  const Json without = json_with_model({"tokenize", "-p", "Hello", "--no-special"});
  EXPECT_EQ(with["count"].get<int>(), without["count"].get<int>() + 1);
}

TEST_F(CliTokenize, TakesStandardInputExactly) {
  const Json newline = json_with_model({"tokenize", "--no-special"},
                                       {.standard_input = "Hello\n", .environment = {}, .stdout_path = {}});
  EXPECT_EQ(newline["ids"], json_with_model({"tokenize", "--no-special", "-p", "Hello\n"})["ids"]);
}

TEST_F(CliTokenize, WorksOnAVocabularyWithoutWeights) {
  const auto spec = tokenizer_spec_from_gguf(GgufFile::open(model()));
  ASSERT_TRUE(spec.has_value());
  {
    GgufWriter writer(path("vocabulary.gguf"));
    writer.add("general.architecture", GgufValue::string("llama"));
    add_tokenizer_to_gguf(*spec, writer);
    writer.begin();
    writer.finish();
  }
  const ProgramResult result =
      run_program({"tokenize", "-m", path("vocabulary.gguf"), "-p", "Hello", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(parse_json(result.out)["ids"], json_with_model({"tokenize", "-p", "Hello"})["ids"]);
  EXPECT_EQ(run_program({"inspect", path("vocabulary.gguf")}).exit_code, 0);
}

TEST_F(CliTokenize, WorksOnAFolderWithATokenizerAlone) {
  const auto spec = tokenizer_spec_from_gguf(GgufFile::open(model()));
  ASSERT_TRUE(spec.has_value());
  std::filesystem::create_directory(path("folder"));
  write_tokenizer_files(*spec, path("folder"));
  const Json expected = json_with_model({"tokenize", "-p", "Hello"})["ids"];
  for (const std::string& name : {path("folder"), path("folder/tokenizer.json")}) {
    const ProgramResult result = run_program({"tokenize", "-m", name, "-p", "Hello", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(parse_json(result.out)["ids"], expected);
  }
}

TEST_F(CliTokenize, PrintsNoRawControlBytes) {
  const ProgramResult result = with_model({"tokenize", "-p", "a\x1b[31mb\x07\n\xff"});
  EXPECT_EQ(result.exit_code, 0);
  for (const char c : result.out) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << int{c};
}

TEST_F(CliTokenize, UsageIsChecked) {
  expect_error(with_model({"tokenize", "--ids", "1"}), 2, "--decode");
  expect_error(with_model({"tokenize", "--decode", "-p", "x"}), 2, "--ids");
  expect_error(with_model({"tokenize", "--decode", "--ids", "100000"}), 2, "vocabulary");
}

}  // namespace
}  // namespace bitnet::testing
