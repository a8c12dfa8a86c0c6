#pragma once

#include "bitnet/inference/model.h"
#include "bitnet/inference/session.h"
#include "bitnet/io/safetensors.h"
#include "bitnet/kernels/cpu.h"
#include "inference/model_impl.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
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

/// A layer of random trits, every row of which has the same scale.
inline Linear random_linear(int64_t rows, int64_t cols, TernaryLayout layout, float scale) {
  std::mt19937 random(3);
  std::vector<int8_t> trits(static_cast<size_t>(rows * cols));
  for (int8_t& trit : trits) trit = static_cast<int8_t>(static_cast<int>(random() % 3) - 1);
  Linear linear;
  linear.weight = PackedTernary(rows, cols, layout);
  linear.max_row_scale = scale;
  const int64_t step = linear.weight.group_rows();
  for (int64_t g = 0; g < linear.weight.groups(); ++g) {
    const auto count = static_cast<size_t>(std::min(step, rows - g * step));
    linear.weight.set_group(
        g, std::span(trits).subspan(static_cast<size_t>(g * step * cols), count * static_cast<size_t>(cols)),
        std::vector<float>(count, scale));
  }
  return linear;
}

}  // namespace bitnet::testing
