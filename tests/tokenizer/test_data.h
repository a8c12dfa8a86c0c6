#pragma once

#include "bitnet/tokenizer/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::tokenizer_test {

/// A file or folder below tests/tokenizer/data.
[[nodiscard]] std::filesystem::path data_path(const std::string& name);
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

struct Case {
  std::string text;
  std::vector<int32_t> ids;
  std::optional<std::string> decoded;  ///< without special tokens
};
/// The cases of data/<name>/cases.json.
[[nodiscard]] std::vector<Case> read_cases(const std::string& name);

/// Random text of `length` characters: letters of several scripts, digits, punctuation, white space, emoji,
/// combining marks, and now and then any other code point.
[[nodiscard]] std::string random_text(uint32_t seed, int length);

/// A byte-level spec with the 256 byte tokens, these merges (and the tokens they make) and then special
/// tokens.
[[nodiscard]] TokenizerSpec byte_level_spec(const std::vector<std::pair<std::string, std::string>>& merges,
                                            const std::vector<std::string>& special_tokens);

}  // namespace bitnet::tokenizer_test
