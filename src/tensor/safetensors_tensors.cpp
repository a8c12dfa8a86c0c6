#include "bitnet/tensor/safetensors_tensors.h"

#include "bitnet/core/error.h"
#include "bitnet/io/safetensors.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <fmt/format.h>

namespace bitnet {

std::map<std::string, Tensor> load_safetensors(const std::filesystem::path& path) {
  const auto file = std::make_shared<const SafetensorsFile>(SafetensorsFile::open(path));
  std::map<std::string, Tensor> tensors;
  for (const SafetensorsEntry& entry : file->tensors()) {
    const auto alignment = static_cast<uintptr_t>(dtype_info(entry.dtype).block_bytes);
    if (reinterpret_cast<uintptr_t>(entry.bytes.data()) % alignment != 0) {
      tensors.emplace(entry.name, from_bytes(entry.bytes, entry.shape, entry.dtype));
      continue;
    }
    // Read-only storage: nothing writes through this pointer.
    auto* data = const_cast<std::byte*>(entry.bytes.data());
    tensors.emplace(entry.name,
                    Tensor(StorageRef::borrow(data, static_cast<int64_t>(entry.bytes.size()), file, false),
                           entry.dtype, entry.shape, contiguous_strides(entry.shape)));
  }
  return tensors;
}

void save_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string, Tensor>> ordered;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined())
      throw Error(ErrorCode::kInvalidTensor, fmt::format("save_safetensors: {} holds nothing", name));
    if (!is_plain(tensor.dtype())) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("save_safetensors: {} is {}, which the format has no name for", name,
                              to_string(tensor.dtype())),
                  "convert it with to_dtype, or convert the model with `bitnet convert`");
    }
    ordered.emplace_back(name, contiguous(tensor));
  }
  // Wide types first keeps all of them aligned.
  std::ranges::stable_sort(ordered, std::greater<>(),
                           [](const auto& entry) { return dtype_info(entry.second.dtype()).block_bytes; });
  SafetensorsWriter writer(path, metadata);
  for (const auto& [name, tensor] : ordered) {
    writer.add_tensor(name, tensor.dtype(), Shape(tensor.shape().begin(), tensor.shape().end()));
  }
  writer.begin();
  for (const auto& [name, tensor] : ordered) {
    writer.write({tensor.bytes(), static_cast<size_t>(tensor.nbytes())});
  }
  writer.finish();
}

}  // namespace bitnet
