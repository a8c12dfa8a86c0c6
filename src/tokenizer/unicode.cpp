#include "tokenizer/unicode.h"

#include <array>

namespace bitnet::text {

namespace {

struct Lead {
  uint32_t length;      // bytes of the whole character; 0 if no character starts so
  uint8_t low, high;    // what the second byte may be
  char32_t value_bits;  // of the lead byte
};

// Unicode 15, table 3-7: well-formed byte sequences.
Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0, byte};
  if (byte < 0xC2) return {0, 0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF, byte & 0x1FU};
  if (byte == 0xE0) return {3, 0xA0, 0xBF, 0};
  if (byte == 0xED) return {3, 0x80, 0x9F, 0xD};
  if (byte < 0xF0) return {3, 0x80, 0xBF, byte & 0xFU};
  if (byte == 0xF0) return {4, 0x90, 0xBF, 0};
  if (byte < 0xF4) return {4, 0x80, 0xBF, byte & 0x7U};
  if (byte == 0xF4) return {4, 0x80, 0x8F, 4};
  return {0, 0, 0, 0};
}

struct ByteAlphabet {
  std::array<std::string, 256> text;
  std::array<int16_t, 0x144> byte{};  // by character; the last is U+0143

  ByteAlphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool prints = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t code = prints ? static_cast<char32_t>(b) : next++;
      append_utf8(text[b], code);
      byte[code] = static_cast<int16_t>(b);
    }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet instance;
  return instance;
}

}  // namespace

Utf8Char decode_front(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const Lead lead = lead_of(at(0));
  if (lead.length == 0) return {};
  char32_t code = lead.value_bits;
  for (uint32_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {kReplacement, i, false, true};
    const uint8_t low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
    if (at(i) < low || at(i) > high) return {kReplacement, i, false, false};
    code = code << 6 | (at(i) & 0x3FU);
  }
  return {code, lead.length, true, false};
}

void append_utf8(std::string& out, char32_t code) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

size_t valid_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (static_cast<uint8_t>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const Utf8Char c = decode_front(text.substr(at));
    if (!c.valid) return at;
    at += c.length;
  }
  return at;
}

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t good = valid_prefix(text);
    out += text.substr(0, good);
    text.remove_prefix(good);
    if (text.empty()) break;
    out += kReplacementUtf8;
    text.remove_prefix(decode_front(text).length);
  }
  return out;
}

std::string_view byte_to_alphabet(uint8_t byte) {
  return alphabet().text[byte];
}

std::optional<uint8_t> byte_from_alphabet(char32_t code) {
  const auto& table = alphabet().byte;
  if (code >= table.size() || table[code] < 0) return std::nullopt;
  return static_cast<uint8_t>(table[code]);
}

std::optional<std::string> bytes_from_alphabet(std::string_view token) {
  std::string bytes;
  while (!token.empty()) {
    const Utf8Char c = decode_front(token);
    const auto byte = c.valid ? byte_from_alphabet(c.code) : std::nullopt;
    if (!byte) return std::nullopt;
    bytes.push_back(static_cast<char>(*byte));
    token.remove_prefix(c.length);
  }
  return bytes;
}

void append_alphabet(std::string& out, std::string_view bytes) {
  for (const char byte : bytes) out += byte_to_alphabet(static_cast<uint8_t>(byte));
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0;;) {
    const size_t hit = text.find(from, at);
    out += text.substr(at, hit - at);
    if (hit == std::string_view::npos) return out;
    out += to;
    at = hit + from.size();
  }
}

}  // namespace bitnet::text
