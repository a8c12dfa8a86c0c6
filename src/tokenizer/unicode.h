#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bitnet::text {

inline constexpr char32_t kReplacement = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";
/// U+2581, SentencePiece's mark for a space.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

struct Utf8Char {
  char32_t code = kReplacement;
  uint32_t length = 1;  ///< bytes taken
  bool valid = false;
  bool truncated = false;  ///< invalid only because the text ends: more bytes could complete it
};

/// The first character of a non-empty text. An invalid sequence takes its maximal subpart (Unicode 15,
/// section 3.9, "U+FFFD Substitution of Maximal Subparts").
[[nodiscard]] Utf8Char decode_front(std::string_view text);
void append_utf8(std::string& out, char32_t code);
/// Bytes of the longest prefix that is valid UTF-8.
[[nodiscard]] size_t valid_prefix(std::string_view text);
[[nodiscard]] inline bool is_valid_utf8(std::string_view text) {
  return valid_prefix(text) == text.size();
}
/// Every invalid sequence becomes U+FFFD.
[[nodiscard]] std::string to_valid_utf8(std::string_view text);

/// The GPT-2 byte alphabet: each byte as one printable character (bytes that print stand for themselves, the
/// other 68 are U+0100 onwards, in order).
[[nodiscard]] std::string_view byte_to_alphabet(uint8_t byte);
[[nodiscard]] std::optional<uint8_t> byte_from_alphabet(char32_t code);
/// The bytes that a token text stands for; nothing if a character is outside the alphabet.
[[nodiscard]] std::optional<std::string> bytes_from_alphabet(std::string_view token);
void append_alphabet(std::string& out, std::string_view bytes);

[[nodiscard]] std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace bitnet::text
