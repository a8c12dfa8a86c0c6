#include "model/json_object.h"

#include "bitnet/core/error.h"

#include <limits>

#include <fmt/format.h>

namespace bitnet {
namespace {

using nlohmann::json;

constexpr size_t kMaxTextBytes = size_t{16} << 20;

std::optional<int64_t> as_int64(const json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return std::nullopt;
  }
  if (!value.is_number_integer()) return std::nullopt;
  return value.get<int64_t>();
}

}  // namespace

JsonObject::JsonObject(const json& value, std::string where) : value_(&value), where_(std::move(where)) {
  if (!value.is_object()) {
    throw Error(ErrorCode::kCorruptData,
                fmt::format("expected a JSON object{}, found {}", where_.empty() ? "" : " at " + where_,
                            value.type_name()));
  }
}

json JsonObject::parse(std::string_view text) {
  if (text.size() > kMaxTextBytes) {
    throw Error(ErrorCode::kCorruptData,
                fmt::format("the JSON text must be at most {} bytes, found {}", kMaxTextBytes, text.size()));
  }
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    throw Error(ErrorCode::kCorruptData, fmt::format("not valid JSON: {}", error.what()),
                "the file is damaged or was downloaded incompletely");
  }
}

const json* JsonObject::find(std::string_view key) const {
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

void JsonObject::wrong_type(std::string_view key, std::string_view expected, const json& found) const {
  throw Error(ErrorCode::kCorruptData,
              fmt::format("'{}{}' must be {}, found {}", where_, key, expected, found.type_name()));
}

std::optional<int64_t> JsonObject::integer(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto integer = as_int64(*value);
  if (!integer) wrong_type(key, "an integer of 64 bits", *value);
  return integer;
}

int64_t JsonObject::required_integer(std::string_view key) const {
  if (const auto value = integer(key)) return *value;
  throw Error(ErrorCode::kCorruptData, fmt::format("'{}{}' is missing", where_, key),
              "config.json must say every dimension of the model");
}

std::optional<double> JsonObject::real(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) wrong_type(key, "a number", *value);
  return value->get<double>();
}

std::optional<bool> JsonObject::boolean(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) wrong_type(key, "true or false", *value);
  return value->get<bool>();
}

std::optional<std::string> JsonObject::string(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong_type(key, "a string", *value);
  return value->get<std::string>();
}

std::optional<JsonObject> JsonObject::object(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) wrong_type(key, "an object", *value);
  return JsonObject(*value, fmt::format("{}{}.", where_, key));
}

std::vector<std::string> JsonObject::strings(std::string_view key) const {
  std::vector<std::string> result;
  const json* value = find(key);
  if (value == nullptr) return result;
  if (!value->is_array()) wrong_type(key, "a list of strings", *value);
  for (const json& element : *value) {
    if (!element.is_string()) wrong_type(key, "a list of strings", element);
    result.push_back(element.get<std::string>());
  }
  return result;
}

std::vector<double> JsonObject::reals(std::string_view key) const {
  std::vector<double> result;
  const json* value = find(key);
  if (value == nullptr) return result;
  if (!value->is_array()) wrong_type(key, "a list of numbers", *value);
  for (const json& element : *value) {
    if (!element.is_number()) wrong_type(key, "a list of numbers", element);
    result.push_back(element.get<double>());
  }
  return result;
}

std::vector<int32_t> JsonObject::token_ids(std::string_view key) const {
  std::vector<int32_t> ids;
  const json* value = find(key);
  if (value == nullptr) return ids;
  const auto add = [&](const json& element) {
    const auto id = as_int64(element);
    // -1 stands for "none" in some files.
    if (!id || *id < -1 || *id > std::numeric_limits<int32_t>::max()) {
      wrong_type(key, "a token id or a list of token ids", element);
    }
    if (*id >= 0) ids.push_back(static_cast<int32_t>(*id));
  };
  if (value->is_array()) {
    for (const json& element : *value) add(element);
  } else {
    add(*value);
  }
  return ids;
}

}  // namespace bitnet
