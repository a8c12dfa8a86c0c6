#pragma once

#include "bitnet/tokenizer/tokenizer.h"
#include "tokenizer/bpe.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet::text {

/// "<0x0A>" -> 10; -1 for any other text.
[[nodiscard]] int byte_of_token(std::string_view token);
[[nodiscard]] std::string token_of_byte(uint8_t byte);

/// Tokens by text, and the bytes that each stands for. The spec must outlive it and stay where it is.
class Vocabulary {
 public:
  explicit Vocabulary(const TokenizerSpec& spec);

  /// By stored text, every type; -1 if none.
  [[nodiscard]] int32_t find(std::string_view token) const { return map_.find(token); }
  /// By stored text, only tokens that plain text may become; -1 if none.
  [[nodiscard]] int32_t find_plain(std::string_view token) const;
  [[nodiscard]] std::string_view bytes(int32_t id) const {
    return std::string_view(bytes_).substr(begin_[id], begin_[id + 1] - begin_[id]);
  }
  [[nodiscard]] bool is_special(int32_t id) const;
  /// The token of one byte ("<0x0A>", or the byte alphabet's character), or -1.
  [[nodiscard]] int32_t byte_token(uint8_t byte) const { return byte_tokens_[byte]; }
  [[nodiscard]] const TokenMap& map() const { return map_; }

 private:
  const TokenizerSpec* spec_;
  TokenMap map_;
  std::string bytes_;
  std::vector<size_t> begin_;
  std::array<int32_t, 256> byte_tokens_{};
};

/// Finds added tokens in text: at each place the longest, left to right.
class AddedTokens {
 public:
  AddedTokens(const TokenizerSpec& spec, const Vocabulary& vocabulary);

  struct Part {
    std::string_view text;
    int32_t id = -1;  ///< -1: plain text
  };
  /// The text in parts, in order. User-defined tokens are always found, special ones only with parse_special.
  [[nodiscard]] std::vector<Part> split(std::string_view text, bool parse_special) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, int32_t>> children;
    int32_t id = -1;
    bool special = false;
  };
  struct Match {
    int32_t id = -1;
    size_t length = 0;
  };
  void add(std::string_view text, int32_t id, bool special);
  [[nodiscard]] int32_t child(int32_t node, uint8_t byte) const;
  [[nodiscard]] Match match_front(std::string_view text, bool parse_special) const;

  std::vector<Node> nodes_;  // a trie; 0 is the root
};

}  // namespace bitnet::text
