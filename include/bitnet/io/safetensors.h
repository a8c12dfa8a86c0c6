#pragma once

#include "bitnet/core/dtype.h"

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
};

/// One safetensors file, or all shards of a model.safetensors.index.json, mapped and checked: header length,
/// JSON, dtype names, shapes against offsets, ranges inside the file, no overlap, gap or rest, no name twice,
/// shards beside the index and holding what it promises. Throws kCorruptData, kUnsupported (fp8, unknown
/// dtype names), kNotFound (a missing shard, by name), kIo.
class SafetensorsFile {
 public:
  /// A file, or a folder with model.safetensors or model.safetensors.index.json.
  static SafetensorsFile open(const std::filesystem::path& path);
  /// For tests and fuzzing.
  static SafetensorsFile parse(std::span<const std::byte> bytes);
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;
  ~SafetensorsFile();

  /// Sorted by name.
  [[nodiscard]] const std::vector<SafetensorsEntry>& tensors() const;
  [[nodiscard]] const SafetensorsEntry* find(std::string_view name) const;
  /// The "__metadata__" strings.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;

 private:
  SafetensorsFile();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes one safetensors file atomically: add_tensor for all, begin(), bytes in the order added (none across
/// two tensors), finish(). Data are not padded (the format forbids gaps): add wide types first to keep them
/// aligned. Throws kIo, kInvalidArgument on wrong order or byte counts, kUnsupported for types that the
/// format has no name for.
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(const std::filesystem::path& path,
                             const std::map<std::string, std::string>& metadata = {});
  ~SafetensorsWriter();
  void add_tensor(std::string name, DType dtype, Shape shape);
  void begin();
  void write(std::span<const std::byte> bytes);
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bitnet
