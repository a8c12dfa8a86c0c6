#pragma once

#include "bitnet/core/dtype.h"
#include "terminal.h"

#include <filesystem>
#include <string>
#include <vector>

namespace bitnet::cli {

struct TensorRow {
  std::string name;
  DType dtype;
  Shape shape;
  int64_t bytes = 0;
};

/// What lies in a model file, as it lies there: names and shapes are the file's own.
struct Container {
  std::string format;  ///< "gguf v3", "safetensors"
  std::vector<std::pair<std::string, Json>> metadata;
  std::vector<TensorRow> tensors;
};

/// Reads a GGUF file, a safetensors file, or a folder with config.json and safetensors. Arrays of more than a
/// few elements are shown as {"length", "first"}.
[[nodiscard]] Container read_container(const std::filesystem::path& path);

}  // namespace bitnet::cli
