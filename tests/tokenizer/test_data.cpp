#include "tokenizer/test_data.h"

#include "tokenizer/unicode.h"

#include <fstream>
#include <random>
#include <sstream>

#include <nlohmann/json.hpp>

namespace bitnet::tokenizer_test {

std::filesystem::path data_path(const std::string& name) {
  return std::filesystem::path(BITNET_SOURCE_DIR) / "tests" / "tokenizer" / "data" / name;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Case> read_cases(const std::string& name) {
  std::vector<Case> cases;
  const auto file = nlohmann::json::parse(read_file(data_path(name) / "cases.json"));
  for (const auto& entry : file.at("cases")) {
    cases.push_back({entry.at("text").get<std::string>(), entry.at("ids").get<std::vector<int32_t>>(), {}});
    if (entry.contains("decoded")) cases.back().decoded = entry.at("decoded").get<std::string>();
  }
  return cases;
}

std::string random_text(uint32_t seed, int length) {
  static constexpr char32_t kRanges[][2] = {
      {'a', 'z'},     {'A', 'Z'},       {'0', '9'},       {' ', '/'},       {'\t', '\r'},
      {0xA0, 0x17F},  {0x300, 0x36F},   {0x3B1, 0x3C9},   {0x410, 0x44F},   {0x5D0, 0x5EA},
      {0x660, 0x669}, {0x2000, 0x206F}, {0x3041, 0x3096}, {0x4E00, 0x4EFF}, {0x1F600, 0x1F64F},
      {' ', ' '},     {0x0, 0x10FFFF}};
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < length; ++i) {
    const auto& range = kRanges[random() % std::size(kRanges)];
    const auto code = static_cast<char32_t>(range[0] + random() % (range[1] - range[0] + 1));
    if (code < 0xD800 || code > 0xDFFF) text::append_utf8(text, code);
  }
  return text;
}

TokenizerSpec byte_level_spec(const std::vector<std::pair<std::string, std::string>>& merges,
                              const std::vector<std::string>& special_tokens) {
  TokenizerSpec spec;
  spec.pre_tokenizer = "llama-bpe";
  for (int b = 0; b < 256; ++b) spec.tokens.emplace_back(text::byte_to_alphabet(static_cast<uint8_t>(b)));
  for (const auto& [left, right] : merges) spec.tokens.push_back(left + right);
  spec.merges = merges;
  spec.types.assign(spec.tokens.size(), TokenType::kNormal);
  for (const auto& token : special_tokens) {
    spec.tokens.push_back(token);
    spec.types.push_back(TokenType::kControl);
  }
  spec.add_bos = false;
  return spec;
}

}  // namespace bitnet::tokenizer_test
