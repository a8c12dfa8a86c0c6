#include "tokenizer/vocabulary.h"

#include "tokenizer/unicode.h"

#include <fmt/format.h>

namespace bitnet::text {

namespace {

bool is_special_type(TokenType type) {
  return type == TokenType::kControl || type == TokenType::kUnknown;
}

// Added tokens stand in the vocabulary as they stand in text, but for SentencePiece's mark.
std::string plain_text(const TokenizerSpec& spec, const std::string& token) {
  return spec.model == TokenizerSpec::Model::kSentencePieceBpe ? replace_all(token, kSpaceMark, " ") : token;
}

std::string bytes_of(const TokenizerSpec& spec, size_t id) {
  const std::string& token = spec.tokens[id];
  const TokenType type = spec.types[id];
  if (spec.model == TokenizerSpec::Model::kSentencePieceBpe) {
    const int byte = type == TokenType::kByte ? byte_of_token(token) : -1;
    return byte >= 0 ? std::string(1, static_cast<char>(byte)) : plain_text(spec, token);
  }
  if (is_special_type(type) || type == TokenType::kUserDefined) return token;
  return bytes_from_alphabet(token).value_or(token);
}

}  // namespace

int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    if (c >= '0' && c <= '9') {
      value = value * 16 + (c - '0');
    } else if (c >= 'A' && c <= 'F') {
      value = value * 16 + (c - 'A' + 10);
    } else {
      return -1;
    }
  }
  return value;
}

std::string token_of_byte(uint8_t byte) {
  return fmt::format("<0x{:02X}>", byte);
}

Vocabulary::Vocabulary(const TokenizerSpec& spec) : spec_(&spec), map_(spec.tokens) {
  begin_.reserve(spec.tokens.size() + 1);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    begin_.push_back(bytes_.size());
    bytes_ += bytes_of(spec, id);
  }
  begin_.push_back(bytes_.size());
  for (int b = 0; b < 256; ++b) {
    const auto byte = static_cast<uint8_t>(b);
    if (spec.model == TokenizerSpec::Model::kByteLevelBpe) {
      byte_tokens_[b] = find_plain(byte_to_alphabet(byte));
    } else {
      const int32_t id = find(token_of_byte(byte));
      byte_tokens_[b] = id >= 0 && spec.types[id] == TokenType::kByte ? id : -1;
    }
  }
}

int32_t Vocabulary::find_plain(std::string_view token) const {
  const int32_t id = map_.find(token);
  if (id < 0) return -1;
  const TokenType type = spec_->types[id];
  return type == TokenType::kNormal || type == TokenType::kUserDefined ? id : -1;
}

bool Vocabulary::is_special(int32_t id) const {
  return is_special_type(spec_->types[id]);
}

AddedTokens::AddedTokens(const TokenizerSpec& spec, const Vocabulary& vocabulary) : nodes_(1) {
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const bool special = vocabulary.is_special(id);
    if (special || spec.types[i] == TokenType::kUserDefined)
      add(plain_text(spec, spec.tokens[i]), id, special);
  }
}

void AddedTokens::add(std::string_view text, int32_t id, bool special) {
  if (text.empty()) return;
  int32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    int32_t next = child(node, byte);
    if (next < 0) {
      next = static_cast<int32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[node].children.emplace_back(byte, next);
    }
    node = next;
  }
  nodes_[node].id = id;
  nodes_[node].special = special;
}

int32_t AddedTokens::child(int32_t node, uint8_t byte) const {
  for (const auto& [key, next] : nodes_[node].children) {
    if (key == byte) return next;
  }
  return -1;
}

AddedTokens::Match AddedTokens::match_front(std::string_view text, bool parse_special) const {
  Match best;
  int32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node = child(node, static_cast<uint8_t>(text[i]));
    if (node < 0) break;
    if (nodes_[node].id >= 0 && (parse_special || !nodes_[node].special)) best = {nodes_[node].id, i + 1};
  }
  return best;
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text, bool parse_special) const {
  std::vector<Part> parts;
  size_t gap = 0;
  for (size_t at = 0; at < text.size();) {
    const Match match = match_front(text.substr(at), parse_special);
    if (match.id < 0) {
      ++at;
      continue;
    }
    if (at > gap) parts.push_back({text.substr(gap, at - gap)});
    parts.push_back({text.substr(at, match.length), match.id});
    at += match.length;
    gap = at;
  }
  if (gap < text.size()) parts.push_back({text.substr(gap)});
  return parts;
}

}  // namespace bitnet::text
