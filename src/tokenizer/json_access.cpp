#include "tokenizer/spec_parts.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet::text {

namespace {

[[noreturn]] void throw_type(const char* key, std::string_view expected, const Json& found) {
  throw corrupt(fmt::format("\"{}\" must be {}, but it is of type {}", key, expected, found.type_name()));
}

}  // namespace

Error corrupt(std::string message) {
  return {ErrorCode::kCorruptData, "tokenizer: " + std::move(message), "the file is damaged; fetch it again"};
}

Error unsupported(std::string message) {
  return {ErrorCode::kUnsupported, "tokenizer: " + std::move(message),
          "supported are byte-level BPE (GPT-2, Llama-3, Falcon) and SentencePiece BPE (Llama-2); see "
          "docs/TOKENIZERS.md"};
}

Json parse_object(std::string_view json, std::string_view name) {
  try {
    Json value = Json::parse(json);
    if (!value.is_object()) {
      throw corrupt(fmt::format("{} must hold a JSON object, but it holds {}", name, value.type_name()));
    }
    return value;
  } catch (const Json::exception& error) {
    throw corrupt(fmt::format("{} must be valid JSON in UTF-8: {}", name, error.what()));
  }
}

const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) {
    throw corrupt(fmt::format("\"{}\" must stand in an object, but it is in {}", key, object.type_name()));
  }
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

bool bool_member(const Json& object, const char* key, bool otherwise) {
  const Json* value = member(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) throw_type(key, "true or false", *value);
  return value->get<bool>();
}

std::string string_member(const Json& object, const char* key, std::string_view otherwise) {
  const Json* value = member(object, key);
  if (value == nullptr) return std::string(otherwise);
  if (!value->is_string()) throw_type(key, "a string", *value);
  return value->get<std::string>();
}

const Json* array_member(const Json& object, const char* key) {
  const Json* value = member(object, key);
  if (value != nullptr && !value->is_array()) throw_type(key, "an array", *value);
  return value;
}

const Json* object_member(const Json& object, const char* key) {
  const Json* value = member(object, key);
  if (value != nullptr && !value->is_object()) throw_type(key, "an object", *value);
  return value;
}

int32_t token_id(const Json& value, std::string_view what, size_t vocabulary_size) {
  if (!value.is_number_integer()) {
    throw corrupt(
        fmt::format("the id of {} must be an integer, but it is of type {}", what, value.type_name()));
  }
  // A number above int64 is held unsigned and turns negative here, which is refused as well.
  const auto id = value.get<int64_t>();
  if (id < 0 || static_cast<uint64_t>(id) >= vocabulary_size) {
    throw corrupt(fmt::format("the id of {} must lie in [0, {}) as ids have no gaps, but it is {}", what,
                              vocabulary_size, value.dump()));
  }
  return static_cast<int32_t>(id);
}

std::vector<int32_t> token_ids(const Json& object, const char* key, size_t vocabulary_size) {
  const Json* value = member(object, key);
  std::vector<int32_t> ids;
  if (value == nullptr) return ids;
  if (!value->is_array()) return {token_id(*value, key, vocabulary_size)};
  for (const auto& id : *value) ids.push_back(token_id(id, key, vocabulary_size));
  return ids;
}

std::optional<int32_t> find_token(const TokenizerSpec& spec, std::string_view text) {
  const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), text);
  if (found == spec.tokens.end()) return std::nullopt;
  return static_cast<int32_t>(found - spec.tokens.begin());
}

}  // namespace bitnet::text
