#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet {

enum class TokenType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

/// Everything that defines a tokenizer, whatever file it came from: what conversion carries from one format
/// to another. Token texts are as GGUF stores them: byte-level BPE in the GPT-2 byte alphabet ("Ġthe"),
/// SentencePiece with U+2581 for a space and "<0x0A>" for bytes.
struct TokenizerSpec {
  enum class Model { kByteLevelBpe, kSentencePieceBpe };
  Model model = Model::kByteLevelBpe;
  std::vector<std::string> tokens;
  std::vector<TokenType> types;                             ///< same length as tokens
  std::vector<float> scores;                                ///< SentencePiece; may be empty otherwise
  std::vector<std::pair<std::string, std::string>> merges;  ///< in order of rank; byte-level BPE, and
                                                            ///< SentencePiece from tokenizer.json
  std::string pre_tokenizer;  ///< GGUF's tokenizer.ggml.pre: "llama-bpe", "gpt-2", "falcon", "falcon3",
                              ///< "falcon_e", ...
  /// Split patterns, applied one after another; filled from the name where the file has none.
  std::vector<std::string> patterns;
  bool byte_level_regex = false;  ///< ByteLevel's own GPT-2 pattern runs after `patterns` (use_regex)
  bool split_digits = false;      ///< a Digits(individual) pre-tokenizer, before `patterns`
  /// Split patterns of pre-tokenizers that follow ByteLevel (falcon): they see the byte alphabet, not the
  /// text.
  std::vector<std::string> byte_patterns;
  bool ignore_merges = false;  ///< a whole piece that is in the vocabulary is taken before any merge
  bool add_bos = true, add_eos = false;
  bool add_space_prefix =
      false;  ///< put a space before the text (and, SentencePiece, after each special token)
  bool space_prefix_unless_space = false;  ///< but not where the text starts with a space already (Metaspace)
  bool space_prefix_first_only = false;  ///< but not after special tokens (Metaspace, prepend_scheme "first")
  bool split_spaces = false;             ///< SentencePiece: no token spans two words (Metaspace, split)
  bool fuse_unk = false;                 ///< neighbouring unknown characters become one unknown token
  std::optional<int32_t> bos, eos, unk, pad;
  std::vector<int32_t>
      stop_tokens;  ///< every end-of-generation token: eos, eot, <|im_end|>, generation_config's list
  std::string chat_template;  ///< Jinja text of the file; never executed, only used for detection

  bool operator==(const TokenizerSpec&) const = default;
};

/// From a Hugging Face tokenizer.json, with tokenizer_config.json, generation_config.json and config.json
/// beside it where present (`folder`). Throws kCorruptData, kUnsupported (WordPiece, Unigram, unknown
/// pre-tokenizers: named).
[[nodiscard]] TokenizerSpec tokenizer_spec_from_folder(const std::filesystem::path& folder);
[[nodiscard]] TokenizerSpec tokenizer_spec_from_json(std::string_view tokenizer_json,
                                                     std::string_view tokenizer_config_json = {});
/// Writes tokenizer.json and tokenizer_config.json (generation_config.json is the caller's).
void write_tokenizer_files(const TokenizerSpec& spec, const std::filesystem::path& folder);

class GgufFile;
class GgufWriter;
/// Nothing if the file holds no tokenizer.
[[nodiscard]] std::optional<TokenizerSpec> tokenizer_spec_from_gguf(const GgufFile& file);
void add_tokenizer_to_gguf(const TokenizerSpec& spec, GgufWriter& writer);

struct EncodeOptions {
  bool add_special = true;  ///< BOS/EOS as the model's rules say
  bool parse_special =
      false;  ///< text such as "<|eot_id|>" becomes the special token (else it is plain text)
};

/// Immutable; every method may be called from several threads.
class Tokenizer {
 public:
  explicit Tokenizer(TokenizerSpec spec);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  [[nodiscard]] const TokenizerSpec& spec() const;
  [[nodiscard]] int32_t vocab_size() const;
  /// Invalid UTF-8 is taken byte by byte where the model can (byte-level), else as U+FFFD; it never throws.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// The bytes that one token stands for (may be part of a UTF-8 character). Special tokens give "" unless
  /// asked. Throws kOutOfRange on an id outside the vocabulary.
  [[nodiscard]] std::string token_bytes(int32_t id, bool special = false) const;
  /// The tokens' bytes in a row, as valid UTF-8 (see StreamDecoder: pushing the same ids gives the same
  /// text). With add_space_prefix, SentencePiece text loses the one leading space that encode() put there.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, bool special = false) const;
  /// The id of a token by its stored text, e.g. "<|eot_id|>".
  [[nodiscard]] std::optional<int32_t> find(std::string_view token) const;
  [[nodiscard]] bool is_special(int32_t id) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Turns tokens into text as they come; holds back an unfinished UTF-8 character until it is whole. Not
/// thread-safe. Like decode() it drops SentencePiece's leading space; to continue a prompt, push the prompt's
/// tokens first.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool special = false);
  /// The text that became complete with this token ("" while inside a character). Bytes that can never become
  /// valid UTF-8 come out as U+FFFD.
  [[nodiscard]] std::string push(int32_t id);
  /// What is still held back, as U+FFFD if incomplete.
  [[nodiscard]] std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool special_;
  bool first_ = true;
  std::string pending_;
};

}  // namespace bitnet
