#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace bitnet {

/// Typed, checked access to one object of a JSON file. Absent keys and null give nothing; another type than
/// asked for throws kCorruptData with the key's path. The JSON must outlive the view.
class JsonObject {
 public:
  /// `where` names the object in messages: "" for the top, "rope_parameters." below.
  JsonObject(const nlohmann::json& value, std::string where);
  /// Parses a whole text and checks that it is an object. Throws kCorruptData.
  static nlohmann::json parse(std::string_view text);

  [[nodiscard]] std::optional<int64_t> integer(std::string_view key) const;
  [[nodiscard]] int64_t required_integer(std::string_view key) const;
  [[nodiscard]] std::optional<double> real(std::string_view key) const;
  [[nodiscard]] std::optional<bool> boolean(std::string_view key) const;
  [[nodiscard]] std::optional<std::string> string(std::string_view key) const;
  [[nodiscard]] std::optional<JsonObject> object(std::string_view key) const;
  [[nodiscard]] std::vector<std::string> strings(std::string_view key) const;
  [[nodiscard]] std::vector<double> reals(std::string_view key) const;
  /// An id, or a list of ids.
  [[nodiscard]] std::vector<int32_t> token_ids(std::string_view key) const;

 private:
  [[nodiscard]] const nlohmann::json* find(std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view key, std::string_view expected,
                               const nlohmann::json& found) const;

  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace bitnet
