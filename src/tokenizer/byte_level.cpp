#include "tokenizer/encoder.h"
#include "tokenizer/unicode.h"

namespace bitnet::text {

ByteLevelEncoder::ByteLevelEncoder(const TokenizerSpec& spec, const Vocabulary& vocabulary)
    : spec_(&spec), vocabulary_(&vocabulary), pre_tokenizer_(spec), merges_(spec.merges, vocabulary.map()) {}

void ByteLevelEncoder::encode(std::string_view text, MergeScratch& scratch, std::vector<int32_t>& ids) const {
  std::string prefixed;
  if (spec_->add_space_prefix && !text.empty() && !text.starts_with(' ')) {
    prefixed.append(" ").append(text);
    text = prefixed;
  }
  while (!text.empty()) {
    // PCRE2 must only ever see valid UTF-8; a byte that is not part of any is a piece by itself.
    const std::string_view valid = text.substr(0, valid_prefix(text));
    for (const auto piece : pre_tokenizer_.split(valid)) encode_piece(piece, scratch, ids);
    text.remove_prefix(valid.size());
    if (text.empty()) break;
    encode_piece(text.substr(0, 1), scratch, ids);
    text.remove_prefix(1);
  }
}

void ByteLevelEncoder::encode_piece(std::string_view piece, MergeScratch& scratch,
                                    std::vector<int32_t>& ids) const {
  if (spec_->ignore_merges) {
    std::string token;
    append_alphabet(token, piece);
    const int32_t id = vocabulary_->find_plain(token);
    if (id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  auto& symbols = scratch.symbols;
  symbols.clear();
  bool after_unknown = false;
  for (uint32_t i = 0; i < piece.size(); ++i) {
    const int32_t id = vocabulary_->byte_token(static_cast<uint8_t>(piece[i]));
    const bool unknown = id < 0;
    const bool kept = !unknown || (spec_->unk && !(after_unknown && spec_->fuse_unk));
    if (kept) symbols.push_back({.begin = i, .length = 1, .id = unknown ? *spec_->unk : id});
    after_unknown = unknown;
  }
  link_symbols(symbols);
  merge_symbols(scratch, [&](const Symbol& a, const Symbol& b) { return merges_.find(a.id, b.id); });
  for (const auto& symbol : symbols) {
    if (symbol.length > 0) ids.push_back(symbol.id);
  }
}

}  // namespace bitnet::text
