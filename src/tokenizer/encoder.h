#pragma once

#include "bitnet/tokenizer/tokenizer.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/vocabulary.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace bitnet::text {

/// Plain text (no added tokens in it) to ids, for byte-level BPE. Immutable.
class ByteLevelEncoder {
 public:
  ByteLevelEncoder(const TokenizerSpec& spec, const Vocabulary& vocabulary);
  void encode(std::string_view text, MergeScratch& scratch, std::vector<int32_t>& ids) const;

 private:
  void encode_piece(std::string_view piece, MergeScratch& scratch, std::vector<int32_t>& ids) const;

  const TokenizerSpec* spec_;
  const Vocabulary* vocabulary_;
  PreTokenizer pre_tokenizer_;
  MergeTable merges_;
};

/// The same for SentencePiece BPE: by merges where the spec has them, else by scores.
class SentencePieceEncoder {
 public:
  SentencePieceEncoder(const TokenizerSpec& spec, const Vocabulary& vocabulary);
  /// at_start: nothing stands before this text.
  void encode(std::string_view text, bool at_start, MergeScratch& scratch, std::vector<int32_t>& ids) const;

 private:
  void encode_piece(std::string_view piece, MergeScratch& scratch, std::vector<int32_t>& ids) const;
  void encode_by_merges(std::string_view piece, MergeScratch& scratch, std::vector<int32_t>& ids) const;
  void encode_by_scores(std::string_view piece, MergeScratch& scratch, std::vector<int32_t>& ids) const;
  /// True if every byte of the character has a token.
  [[nodiscard]] bool has_bytes(std::string_view character) const;

  const TokenizerSpec* spec_;
  const Vocabulary* vocabulary_;
  MergeTable merges_;
  std::vector<uint32_t> score_ranks_;  // by id; empty: encode by merges
  size_t longest_token_bytes_ = 0;
};

/// Checks what every spec must keep, whatever file it came from: lengths, ids in range, valid UTF-8, finite
/// scores. Throws kCorruptData.
void check_spec(const TokenizerSpec& spec);

}  // namespace bitnet::text
