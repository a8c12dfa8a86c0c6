#include "model/synth_tokenizer.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int64_t kBytes = 256;
/// Llama 3's and BitNet b1.58 2B-4T's, in order of id; the rest up to 256 are reserved.
constexpr std::array<std::string_view, 10> kSpecial = {"<|begin_of_text|>",
                                                       "<|end_of_text|>",
                                                       "<|reserved_special_token_0|>",
                                                       "<|reserved_special_token_1|>",
                                                       "<|finetune_right_pad_id|>",
                                                       "<|reserved_special_token_2|>",
                                                       "<|start_header_id|>",
                                                       "<|end_header_id|>",
                                                       "<|eom_id|>",
                                                       "<|eot_id|>"};

std::string utf8(uint32_t code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xc0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3f))};
}

/// GPT-2's printable stand-in for a byte. Source: openai/gpt-2, encoder.py, bytes_to_unicode.
std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < kBytes; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    tokens.push_back(utf8(printable ? byte : next++));
  }
  return tokens;
}

/// Words of one of kFirst and any number of kLater, each made of a shorter word and one letter, and the same
/// words after a space. Because no merge begins with one of kLater, and a word's growth ranks before its
/// joining to a space, every token is what its own text is merged to.
void add_merges(TokenizerSpec& spec, int64_t count) {
  constexpr std::string_view kFirst = "bcdfghjklmnpq", kLater = "aeiourstvwxyz", kSpace = "Ġ";
  const auto wanted = spec.tokens.size() + static_cast<size_t>(count);
  const auto full = [&] { return spec.tokens.size() == wanted; };
  const auto add = [&](std::string_view left, std::string_view right) {
    if (full()) return;
    spec.tokens.push_back(fmt::format("{}{}", left, right));
    spec.merges.emplace_back(left, right);
  };
  std::vector<std::string> words;
  for (const char letter : kFirst) words.emplace_back(1, letter);
  for (size_t i = 0; !full(); ++i) {
    const std::string left = words[i];
    for (size_t letter = 0; letter < kLater.size() && !full(); ++letter) {
      add(left, kLater.substr(letter, 1));
      words.push_back(spec.tokens.back());
    }
    add(kSpace, left);
  }
}

}  // namespace

TokenizerSpec synth_tokenizer(int64_t vocab_size) {
  const int64_t special =
      std::min<int64_t>(vocab_size == 128256 ? 256 : std::ssize(kSpecial), vocab_size - kBytes);
  if (special < 2) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a byte-level vocabulary needs {} entries, found {}", kBytes + 2, vocab_size));
  }
  TokenizerSpec spec;
  spec.pre_tokenizer = "llama-bpe";
  spec.tokens = byte_tokens();
  add_merges(spec, vocab_size - kBytes - special);
  spec.types.assign(spec.tokens.size(), TokenType::kNormal);
  const auto first = static_cast<int32_t>(spec.tokens.size());
  for (int64_t i = 0; i < special; ++i) {
    spec.tokens.push_back(i < std::ssize(kSpecial) ? std::string(kSpecial[static_cast<size_t>(i)])
                                                   : fmt::format("<|reserved_special_token_{}|>", i - 7));
    spec.types.push_back(TokenType::kControl);
  }
  spec.bos = first;
  spec.eos = first + 1;
  spec.stop_tokens = {first + 1};
  if (special >= std::ssize(kSpecial)) spec.stop_tokens.push_back(first + 9);
  return spec;
}

}  // namespace bitnet
