#include "tokenizer/bpe.h"

#include "bitnet/core/error.h"

#include <bit>
#include <functional>

#include <fmt/format.h>

namespace bitnet::text {

namespace {

// At most half full, so that probes stay short.
size_t table_size(size_t entries) {
  return std::bit_ceil(entries * 2 + 2);
}

}  // namespace

TokenMap::TokenMap(const std::vector<std::string>& tokens)
    : tokens_(&tokens), slots_(table_size(tokens.size())) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty()) continue;
    const auto hash = static_cast<uint32_t>(std::hash<std::string_view>{}(tokens[i]));
    size_t at = hash & (slots_.size() - 1);
    for (; slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].hash != hash || tokens[slots_[at].id] != tokens[i]) continue;
      throw Error(
          ErrorCode::kCorruptData,
          fmt::format("tokenizer: every token must have its own text, but tokens {} and {} are both \"{}\"",
                      slots_[at].id, i, tokens[i]),
          "the vocabulary is damaged; fetch or convert the model again");
    }
    slots_[at] = {hash, static_cast<int32_t>(i)};
  }
}

int32_t TokenMap::find(std::string_view text) const {
  if (text.empty() || slots_.empty()) return -1;
  const auto hash = static_cast<uint32_t>(std::hash<std::string_view>{}(text));
  for (size_t at = hash & (slots_.size() - 1); slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].hash == hash && (*tokens_)[slots_[at].id] == text) return slots_[at].id;
  }
  return -1;
}

MergeTable::MergeTable(const std::vector<std::pair<std::string, std::string>>& merges,
                       const TokenMap& tokens) {
  if (merges.empty()) return;
  slots_.resize(table_size(merges.size()));
  std::string whole;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    whole.assign(left).append(right);
    const int32_t left_id = tokens.find(left), right_id = tokens.find(right), id = tokens.find(whole);
    if (left_id < 0 || right_id < 0 || id < 0) {
      throw Error(ErrorCode::kCorruptData,
                  fmt::format("tokenizer: merge {} is \"{}\" + \"{}\", but \"{}\" is not in the vocabulary",
                              rank, left, right,
                              left_id < 0    ? left
                              : right_id < 0 ? right
                                             : whole),
                  "merges and vocabulary come from different tokenizers; fetch or convert the model again");
    }
    insert(key_of(left_id, right_id), {static_cast<uint32_t>(rank), id});
  }
}

void MergeTable::insert(uint64_t key, Merge merge) {
  size_t at = home(key);
  while (slots_[at].key != kFree && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {key, merge};  // a rule given twice has its later rank, as in Hugging Face tokenizers
}

void link_symbols(std::vector<Symbol>& symbols) {
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : -1;
  }
}

}  // namespace bitnet::text
