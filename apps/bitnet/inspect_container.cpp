#include "inspect_container.h"

#include "bitnet/core/error.h"
#include "bitnet/io/gguf.h"
#include "bitnet/io/safetensors.h"
#include "text.h"

#include <algorithm>
#include <fstream>
#include <type_traits>
#include <utility>
#include <variant>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

// Longer arrays (a vocabulary has 128000 tokens) would hide everything else.
constexpr size_t kLongestArray = 16;
constexpr size_t kShownElements = 8;

template <class T>
Json array_to_json(const std::vector<T>& values) {
  const bool whole = values.size() <= kLongestArray;
  Json list = Json::array();
  for (size_t i = 0; i < (whole ? values.size() : kShownElements); ++i) list.push_back(T(values[i]));
  return whole ? list : Json{{"length", values.size()}, {"first", list}};
}

Json to_json(const GgufValue& value) {
  return std::visit(
      [](const auto& held) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, GgufArray>) {
          return std::visit([](const auto& values) { return array_to_json(values); }, held);
        } else {
          return held;
        }
      },
      value.value);
}

Container read_gguf(const std::filesystem::path& path) {
  const GgufFile file = GgufFile::open(path);
  Container container;
  container.format = fmt::format("gguf v{}", file.version());
  for (const auto& [key, value] : file.metadata()) container.metadata.emplace_back(key, to_json(value));
  for (const GgufTensor& tensor : file.tensors()) {
    container.tensors.push_back(
        {tensor.name, tensor.dtype, tensor.shape, static_cast<int64_t>(tensor.bytes.size())});
  }
  return container;
}

void add_config(const std::filesystem::path& path, Container& container) {
  const Json config = Json::parse(read_input(path.string()), nullptr, false);
  if (!config.is_object()) {
    throw Error(ErrorCode::kCorruptData, fmt::format("{} is not a JSON object", path.string()));
  }
  for (const auto& [key, value] : config.items()) container.metadata.emplace_back(key, value);
}

Container read_safetensors(const std::filesystem::path& path) {
  Container container;
  container.format = "safetensors";
  if (std::filesystem::is_directory(path)) add_config(path / "config.json", container);
  const SafetensorsFile file = SafetensorsFile::open(path);
  for (const auto& [key, value] : file.metadata())
    container.metadata.emplace_back("__metadata__." + key, value);
  for (const SafetensorsEntry& tensor : file.tensors()) {
    container.tensors.push_back(
        {tensor.name, tensor.dtype, tensor.shape, static_cast<int64_t>(tensor.bytes.size())});
  }
  return container;
}

}  // namespace

Container read_container(const std::filesystem::path& path) {
  const bool safetensors = std::filesystem::is_directory(path) || path.extension() == ".safetensors";
  try {
    return safetensors ? read_safetensors(path) : read_gguf(path);
  } catch (Error& error) {
    if (std::string_view(error.what()).find(path.string()) == std::string_view::npos) {
      error.with_context(path.string());
    }
    throw;
  }
}

}  // namespace bitnet::cli
