#pragma once

#include "bitnet/tensor/tensor.h"

#include <filesystem>
#include <map>
#include <string>

namespace bitnet {

/// Every tensor of a safetensors file or folder (bitnet/io/safetensors.h), by name, as read-only views of the
/// mapped file, which stays mapped as long as one of them lives. One that lies at an address that its type
/// forbids is copied. Throws what SafetensorsFile::open throws.
[[nodiscard]] std::map<std::string, Tensor> load_safetensors(const std::filesystem::path& path);

/// Writes plain host tensors, contiguous or not, atomically. Throws kUnsupported for other types,
/// kDeviceMismatch, kIo (a full disk leaves the file that was there).
void save_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace bitnet
