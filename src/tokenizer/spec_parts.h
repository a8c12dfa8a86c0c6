#pragma once

#include "bitnet/core/error.h"
#include "bitnet/tokenizer/tokenizer.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

/// The parts from which a TokenizerSpec is read, shared by the readers of the several files.
namespace bitnet::text {

using Json = nlohmann::json;

/// Errors of a file that breaks its format, and of one that asks for what is not built.
[[nodiscard]] Error corrupt(std::string message);
[[nodiscard]] Error unsupported(std::string message);

/// Parses; throws kCorruptData with `name` on anything but valid JSON whose top is an object.
[[nodiscard]] Json parse_object(std::string_view json, std::string_view name);
/// The member, or null if absent (or JSON null).
[[nodiscard]] const Json* member(const Json& object, const char* key);
/// Typed members: `otherwise` if absent or null; kCorruptData naming the key on another type.
[[nodiscard]] bool bool_member(const Json& object, const char* key, bool otherwise);
[[nodiscard]] std::string string_member(const Json& object, const char* key, std::string_view otherwise = "");
[[nodiscard]] const Json* array_member(const Json& object, const char* key);
[[nodiscard]] const Json* object_member(const Json& object, const char* key);
/// A token id inside the vocabulary's range.
[[nodiscard]] int32_t token_id(const Json& value, std::string_view what, size_t vocabulary_size);
/// One id or a list of them; empty if absent.
[[nodiscard]] std::vector<int32_t> token_ids(const Json& object, const char* key, size_t vocabulary_size);
/// By stored text; a linear search, for the few tokens that files name.
[[nodiscard]] std::optional<int32_t> find_token(const TokenizerSpec& spec, std::string_view text);

/// normalizer, pre_tokenizer, decoder and post_processor of tokenizer.json; decides the model's kind. The
/// vocabulary must have been read. Throws kUnsupported naming what is not known.
void read_rules(const Json& tokenizer, TokenizerSpec& spec);

/// Stop tokens: eos, and special tokens whose texts are known to end a turn. Sorted, each once.
void derive_stop_tokens(TokenizerSpec& spec);

/// Our own entries, which keep what the other formats cannot say (docs/TOKENIZERS.md).
inline constexpr const char* kOwnEntry = "bitnet";

}  // namespace bitnet::text
