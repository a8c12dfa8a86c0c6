#pragma once

#include "bitnet/core/error.h"
#include "bitnet/io/gguf.h"
#include "bitnet/io/safetensors.h"
#include "bitnet/model/checkpoint.h"
#include "model/names.h"
#include "model/ternary_source.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace bitnet {

/// A tensor of either file format.
struct RawTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
};

/// What an open Checkpoint consists of.
struct CheckpointParts {
  Checkpoint::Format format = Checkpoint::Format::kGguf;
  std::filesystem::path path;
  ModelConfig config;
  std::optional<TokenizerSpec> tokenizer;
  std::optional<int32_t> bos_token;
  std::vector<int32_t> stop_tokens;

  std::vector<DenseSource> dense;
  std::vector<std::string> linear_names;
  std::vector<std::unique_ptr<TernarySource>> linears;
  std::unordered_map<std::string, size_t> dense_index, linear_index;

  // What the spans above point into.
  std::optional<GgufFile> gguf;
  std::optional<SafetensorsFile> safetensors;
};

/// Runs `body`; its errors get `frame` as outer context.
template <class Body>
auto in_context(const std::string& frame, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (Error& error) {
    error.with_context(frame);
    throw;
  }
}

/// A file's tensors by name, with a note of which were used.
class TensorTable {
 public:
  void add(RawTensor tensor);
  [[nodiscard]] bool contains(const std::string& name) const { return index_.contains(name); }
  /// Null if absent; else the tensor counts as used.
  [[nodiscard]] const RawTensor* take(const std::string& name);
  /// Throws kCorruptData if absent.
  [[nodiscard]] const RawTensor& require(const std::string& name);
  /// Marks as known what the model does not need.
  void ignore(const std::string& name) { used_.insert(name); }
  [[nodiscard]] std::vector<std::string> unused() const;
  [[nodiscard]] bool any_ends_with(std::string_view suffix) const;

 private:
  std::vector<RawTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
  std::unordered_set<std::string> used_;
};

/// Throws kCorruptData if the shape is another one.
void check_shape(const RawTensor& tensor, const Shape& expected);
/// Checks shape and type, and for norms that every weight is finite, and adds the tensor.
void add_dense(CheckpointParts& impl, const TensorRole& role, const RawTensor& tensor);
void add_linear(CheckpointParts& impl, const TensorRole& role, std::unique_ptr<TernarySource> source);
/// The value of a tensor of one float. Throws kCorruptData unless it is finite and positive.
[[nodiscard]] float read_scale(const RawTensor& tensor);

/// The union of what the file's parts say, sorted, unique, inside the vocabulary.
void set_stop_tokens(CheckpointParts& impl, std::vector<int32_t> from_config);
void check_vocabulary(const CheckpointParts& impl);
/// Logs a warning that names what nothing explained.
void warn_unused(const CheckpointParts& impl, const TensorTable& table);

void open_gguf(CheckpointParts& impl);
void open_huggingface(CheckpointParts& impl);

}  // namespace bitnet
