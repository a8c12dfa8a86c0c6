#include "bitnet/core/error.h"
#include "bitnet/io/gguf.h"

#include <limits>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr std::string_view kTypeNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};

std::string type_name(const GgufValue& value) {
  std::string name(kTypeNames[static_cast<size_t>(value.type)]);
  if (value.type != GgufType::kArray) return name;
  return fmt::format("{} of {}", name, kTypeNames[static_cast<size_t>(value.element_type)]);
}

[[noreturn]] void throw_wrong_kind(std::string_view key, std::string_view wanted, const GgufValue& found) {
  throw Error(ErrorCode::kCorruptData,
              fmt::format("metadata key {:?} should hold {}, but holds {}", key, wanted, type_name(found)),
              "the file was made by a tool with another idea of this key");
}

int64_t checked_int64(std::string_view key, uint64_t value) {
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    throw Error(ErrorCode::kCorruptData, fmt::format("metadata key {:?}: {} overflows int64", key, value));
  }
  return static_cast<int64_t>(value);
}

template <class Held>
GgufValue holding(GgufType type, Held held, GgufType element_type = GgufType::kU32) {
  GgufValue result;
  result.type = type;
  result.element_type = element_type;
  result.value.emplace<Held>(std::move(held));
  return result;
}

GgufValue array_of(GgufType element_type, GgufArray items) {
  return holding(GgufType::kArray, std::move(items), element_type);
}

}  // namespace

GgufValue GgufValue::u32(uint32_t v) {
  return holding(GgufType::kU32, uint64_t{v});
}

GgufValue GgufValue::f32(float v) {
  return holding(GgufType::kF32, static_cast<double>(v));
}

GgufValue GgufValue::boolean(bool v) {
  return holding(GgufType::kBool, v);
}

GgufValue GgufValue::string(std::string v) {
  return holding(GgufType::kString, std::move(v));
}

GgufValue GgufValue::strings(std::vector<std::string> v) {
  return array_of(GgufType::kString, std::move(v));
}

GgufValue GgufValue::i32_array(const std::vector<int32_t>& v) {
  return array_of(GgufType::kI32, std::vector<int64_t>(v.begin(), v.end()));
}

GgufValue GgufValue::f32_array(const std::vector<float>& v) {
  return array_of(GgufType::kF32, std::vector<double>(v.begin(), v.end()));
}

std::optional<int64_t> GgufFile::get_integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<int64_t>(&value->value)) return *number;
  if (const auto* number = std::get_if<uint64_t>(&value->value)) return checked_int64(key, *number);
  throw_wrong_kind(key, "an integer", *value);
}

std::optional<double> GgufFile::get_real(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(&value->value)) return *number;
  if (const auto* number = std::get_if<int64_t>(&value->value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<uint64_t>(&value->value)) return static_cast<double>(*number);
  throw_wrong_kind(key, "a number", *value);
}

std::optional<bool> GgufFile::get_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(&value->value)) return *flag;
  throw_wrong_kind(key, "a bool", *value);
}

std::optional<std::string_view> GgufFile::get_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(&value->value)) return *text;
  throw_wrong_kind(key, "a string", *value);
}

const std::vector<std::string>* GgufFile::get_strings(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* items = std::get_if<GgufArray>(&value->value)) {
    if (const auto* strings = std::get_if<std::vector<std::string>>(items)) return strings;
  }
  throw_wrong_kind(key, "an array of strings", *value);
}

std::optional<std::vector<int64_t>> GgufFile::get_integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* items = std::get_if<GgufArray>(&value->value)) {
    if (const auto* numbers = std::get_if<std::vector<int64_t>>(items)) return *numbers;
    if (const auto* numbers = std::get_if<std::vector<uint64_t>>(items)) {
      std::vector<int64_t> converted;
      converted.reserve(numbers->size());
      for (const uint64_t number : *numbers) converted.push_back(checked_int64(key, number));
      return converted;
    }
  }
  throw_wrong_kind(key, "an array of integers", *value);
}

std::optional<std::vector<double>> GgufFile::get_reals(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto as_reals = [](const auto& numbers) {
    std::vector<double> converted;
    converted.reserve(numbers.size());
    for (const auto number : numbers) converted.push_back(static_cast<double>(number));
    return converted;
  };
  if (const auto* items = std::get_if<GgufArray>(&value->value)) {
    if (const auto* numbers = std::get_if<std::vector<double>>(items)) return *numbers;
    if (const auto* numbers = std::get_if<std::vector<int64_t>>(items)) return as_reals(*numbers);
    if (const auto* numbers = std::get_if<std::vector<uint64_t>>(items)) return as_reals(*numbers);
  }
  throw_wrong_kind(key, "an array of numbers", *value);
}

}  // namespace bitnet
