#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::cli {

/// Offset of the first byte that is not part of valid UTF-8, or nothing.
[[nodiscard]] std::optional<size_t> find_invalid_utf8(std::string_view text);

enum class KeepLayout { kNo, kYes };
/// Text from a file made safe to show: control characters (C0, DEL, C1), bidirectional overrides and bytes
/// that are not UTF-8 become \n, \t, \xNN or \u{NNNN}. With KeepLayout::kYes newline and tab stay.
[[nodiscard]] std::string escape_controls(std::string_view text, KeepLayout layout = KeepLayout::kNo);
/// The same in double quotes, with quotes and backslashes escaped.
[[nodiscard]] std::string in_quotes(std::string_view text);

/// Token ids separated by commas or white space. Throws kInvalidArgument on anything else, or on none.
[[nodiscard]] std::vector<int32_t> parse_ids(std::string_view text);
/// Throws kInvalidArgument, naming the first id that is outside the vocabulary.
void check_ids(std::span<const int32_t> ids, int64_t vocab_size);

/// A whole file, or standard input for "-". Throws kNotFound or kIo.
[[nodiscard]] std::string read_input(const std::string& path);

/// "1.19 GB": powers of 1000, three digits.
[[nodiscard]] std::string format_bytes(int64_t bytes);

}  // namespace bitnet::cli
