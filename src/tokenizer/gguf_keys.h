#pragma once

/// Metadata keys of a tokenizer in GGUF: the common ones, and our own for what those cannot say. Our own are
/// written only where they differ from what the common keys imply.
namespace bitnet::text::gguf_key {

inline constexpr const char* kModel = "tokenizer.ggml.model";
inline constexpr const char* kPre = "tokenizer.ggml.pre";
inline constexpr const char* kTokens = "tokenizer.ggml.tokens";
inline constexpr const char* kTypes = "tokenizer.ggml.token_type";
inline constexpr const char* kScores = "tokenizer.ggml.scores";
inline constexpr const char* kMerges = "tokenizer.ggml.merges";
inline constexpr const char* kBos = "tokenizer.ggml.bos_token_id";
inline constexpr const char* kEos = "tokenizer.ggml.eos_token_id";
inline constexpr const char* kEot = "tokenizer.ggml.eot_token_id";
inline constexpr const char* kEom = "tokenizer.ggml.eom_token_id";
inline constexpr const char* kUnknown = "tokenizer.ggml.unknown_token_id";
inline constexpr const char* kPadding = "tokenizer.ggml.padding_token_id";
inline constexpr const char* kAddBos = "tokenizer.ggml.add_bos_token";
inline constexpr const char* kAddEos = "tokenizer.ggml.add_eos_token";
inline constexpr const char* kAddSpacePrefix = "tokenizer.ggml.add_space_prefix";
inline constexpr const char* kChatTemplate = "tokenizer.chat_template";

inline constexpr const char* kIgnoreMerges = "bitnet.tokenizer.ignore_merges";
inline constexpr const char* kPatterns = "bitnet.tokenizer.patterns";
inline constexpr const char* kBytePatterns = "bitnet.tokenizer.byte_patterns";
inline constexpr const char* kByteLevelRegex = "bitnet.tokenizer.byte_level_regex";
inline constexpr const char* kSplitDigits = "bitnet.tokenizer.split_digits";
inline constexpr const char* kPrefixUnlessSpace = "bitnet.tokenizer.space_prefix_unless_space";
inline constexpr const char* kPrefixFirstOnly = "bitnet.tokenizer.space_prefix_first_only";
inline constexpr const char* kSplitSpaces = "bitnet.tokenizer.split_spaces";
inline constexpr const char* kFuseUnk = "bitnet.tokenizer.fuse_unk";
inline constexpr const char* kScoresFromMerges = "bitnet.tokenizer.scores_from_merges";
inline constexpr const char* kStopTokens = "bitnet.tokenizer.stop_tokens";

/// tokenizer.ggml.pre of rules without a known name; other engines refuse it, which beats wrong tokens.
inline constexpr const char* kCustomPre = "bitnet-custom";

}  // namespace bitnet::text::gguf_key
