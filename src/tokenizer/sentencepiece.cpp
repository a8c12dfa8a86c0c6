#include "tokenizer/encoder.h"
#include "tokenizer/unicode.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace bitnet::text {

namespace {

// Rank 0 for the highest score; equal scores share a rank, so that the leftmost goes first.
std::vector<uint32_t> ranks_of(const std::vector<float>& scores) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  std::vector<uint32_t> ranks(scores.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace

SentencePieceEncoder::SentencePieceEncoder(const TokenizerSpec& spec, const Vocabulary& vocabulary)
    : spec_(&spec), vocabulary_(&vocabulary), merges_(spec.merges, vocabulary.map()) {
  if (spec.merges.empty()) score_ranks_ = ranks_of(spec.scores);
  for (const auto& token : spec.tokens) longest_token_bytes_ = std::max(longest_token_bytes_, token.size());
}

void SentencePieceEncoder::encode(std::string_view text, bool at_start, MergeScratch& scratch,
                                  std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  const bool has_space = text.front() == ' ' || text.starts_with(kSpaceMark);
  const bool prefix = spec_->add_space_prefix && !(spec_->space_prefix_first_only && !at_start) &&
                      !(spec_->space_prefix_unless_space && has_space);
  std::string marked(prefix ? kSpaceMark : "");
  marked += replace_all(to_valid_utf8(text), " ", kSpaceMark);
  std::string_view rest = marked;
  while (!rest.empty()) {
    const size_t next_word = spec_->split_spaces ? rest.find(kSpaceMark, 1) : std::string_view::npos;
    const std::string_view piece = rest.substr(0, next_word);
    encode_piece(piece, scratch, ids);
    rest.remove_prefix(piece.size());
  }
}

void SentencePieceEncoder::encode_piece(std::string_view piece, MergeScratch& scratch,
                                        std::vector<int32_t>& ids) const {
  if (spec_->ignore_merges) {
    const int32_t id = vocabulary_->find_plain(piece);
    if (id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  scratch.symbols.clear();
  score_ranks_.empty() ? encode_by_merges(piece, scratch, ids) : encode_by_scores(piece, scratch, ids);
}

bool SentencePieceEncoder::has_bytes(std::string_view character) const {
  return std::all_of(character.begin(), character.end(),
                     [&](char c) { return vocabulary_->byte_token(static_cast<uint8_t>(c)) >= 0; });
}

void SentencePieceEncoder::encode_by_merges(std::string_view piece, MergeScratch& scratch,
                                            std::vector<int32_t>& ids) const {
  auto& symbols = scratch.symbols;
  bool after_unknown = false;
  for (uint32_t at = 0; at < piece.size();) {
    const uint32_t length = decode_front(piece.substr(at)).length;
    const std::string_view character = piece.substr(at, length);
    const int32_t id = vocabulary_->find_plain(character);
    bool unknown = false;
    if (id >= 0) {
      symbols.push_back({.begin = at, .length = length, .id = id});
    } else if (has_bytes(character)) {
      for (uint32_t i = 0; i < length; ++i) {
        symbols.push_back({.begin = at + i,
                           .length = 1,
                           .id = vocabulary_->byte_token(static_cast<uint8_t>(character[i]))});
      }
    } else {
      unknown = true;
      if (spec_->unk && !(after_unknown && spec_->fuse_unk)) {
        symbols.push_back({.begin = at, .length = length, .id = *spec_->unk});
      }
    }
    after_unknown = unknown;
    at += length;
  }
  link_symbols(symbols);
  merge_symbols(scratch, [&](const Symbol& a, const Symbol& b) { return merges_.find(a.id, b.id); });
  for (const auto& symbol : symbols) {
    if (symbol.length > 0) ids.push_back(symbol.id);
  }
}

void SentencePieceEncoder::encode_by_scores(std::string_view piece, MergeScratch& scratch,
                                            std::vector<int32_t>& ids) const {
  auto& symbols = scratch.symbols;
  for (uint32_t at = 0; at < piece.size();) {
    const uint32_t length = decode_front(piece.substr(at)).length;
    symbols.push_back(
        {.begin = at, .length = length, .id = vocabulary_->find_plain(piece.substr(at, length))});
    at += length;
  }
  link_symbols(symbols);
  merge_symbols(scratch, [&](const Symbol& a, const Symbol& b) -> Merge {
    if (a.length + b.length > longest_token_bytes_) return {};
    const int32_t id = vocabulary_->find_plain(piece.substr(a.begin, a.length + b.length));
    return id < 0 ? Merge{} : Merge{score_ranks_[id], id};
  });
  bool after_unknown = false;
  for (const auto& symbol : symbols) {
    if (symbol.length == 0) continue;
    const std::string_view text = piece.substr(symbol.begin, symbol.length);
    const bool unknown = symbol.id < 0 && !has_bytes(text);
    if (symbol.id >= 0) {
      ids.push_back(symbol.id);
    } else if (!unknown) {
      for (const char c : text) ids.push_back(vocabulary_->byte_token(static_cast<uint8_t>(c)));
    } else if (spec_->unk && !(after_unknown && spec_->fuse_unk)) {
      ids.push_back(*spec_->unk);
    }
    after_unknown = unknown;
  }
}

}  // namespace bitnet::text
