#pragma once

#include "bitnet/inference/model.h"
#include "bitnet/inference/session.h"
#include "bitnet/io/safetensors.h"
#include "bitnet/kernels/cpu.h"

#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace bitnet::testing {

inline std::filesystem::path data_folder() {
  return std::filesystem::path(BITNET_SOURCE_DIR) / "tests/data";
}
inline std::filesystem::path bundled_model() {
  return std::filesystem::path(BITNET_SOURCE_DIR) / "models/storyteller.gguf";
}

template <class T>
std::vector<T> read_tensor(const SafetensorsFile& file, std::string_view name) {
  const SafetensorsEntry* entry = file.find(name);
  std::vector<T> values(entry->bytes.size() / sizeof(T));
  std::memcpy(values.data(), entry->bytes.data(), entry->bytes.size());
  return values;
}

/// What PyTorch computed for a reference checkpoint.
struct Expected {
  std::vector<int32_t> input_ids, greedy_ids;
  std::vector<float> logits;
  float mean_nll = 0;
};

inline Expected read_expected(const std::filesystem::path& folder) {
  const SafetensorsFile file = SafetensorsFile::open(folder / "expected.safetensors");
  Expected expected;
  expected.greedy_ids = read_tensor<int32_t>(file, "greedy_ids");
  expected.input_ids = read_tensor<int32_t>(file, "input_ids");
  expected.logits = read_tensor<float>(file, "logits");
  expected.mean_nll = read_tensor<float>(file, "mean_nll").at(0);
  return expected;
}

inline std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const std::string_view name : available_isas()) names.emplace_back(name);
  return names;
}

}  // namespace bitnet::testing
