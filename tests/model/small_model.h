#pragma once

#include "bitnet/core/error.h"
#include "bitnet/model/checkpoint.h"
#include "bitnet/model/config.h"

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet::testing {

/// A tensor to be written, as its file type holds it.
struct FileTensor {
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<std::byte> bytes;
};

/// A small model of known random trits, from which tests write files, whole or damaged.
class SmallModel {
 public:
  explicit SmallModel(ModelConfig config, uint32_t seed = 1);

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const std::vector<int8_t>& trits(const std::string& name) const { return trits_.at(name); }
  [[nodiscard]] float scale(const std::string& name) const { return scales_.at(name); }
  [[nodiscard]] const std::vector<std::string>& linear_names() const { return linear_names_; }

  /// Tensors under their Hugging Face names. Linear layers packed (weight_scale as the class says), or of a
  /// float type.
  [[nodiscard]] std::map<std::string, FileTensor> hf_tensors(HfQuantization::LinearClass linear_class,
                                                             DType linear_type = DType::kHfTernary) const;
  /// Tensors under GGUF names; q and k permuted if the architecture is llama.
  [[nodiscard]] std::map<std::string, FileTensor> gguf_tensors(DType linear_type = DType::kI2_S) const;

 private:
  ModelConfig config_;
  std::vector<std::string> linear_names_;
  std::map<std::string, std::vector<int8_t>> trits_;
  std::map<std::string, float> scales_;
  std::map<std::string, std::vector<float>> dense_;
  std::map<std::string, Shape> shapes_;
};

/// Architecture bitnet-b1.58 with 2 layers, hidden 128, intermediate 256.
[[nodiscard]] ModelConfig small_config();
/// Architecture llama: untied, no sub-norms, head_dim 64 while hidden / heads is 32.
[[nodiscard]] ModelConfig small_llama_config();

[[nodiscard]] FileTensor float_tensor(Shape shape, const std::vector<float>& values,
                                      DType dtype = DType::kF32);

void write_folder(const std::filesystem::path& folder, const HfConfig& config,
                  const std::map<std::string, FileTensor>& tensors);
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, FileTensor>& tensors);
void write_gguf(const std::filesystem::path& path, const ModelConfig& config,
                const std::map<std::string, FileTensor>& tensors);
void write_text_file(const std::filesystem::path& path, std::string_view text);

[[nodiscard]] HfConfig packed_config(const ModelConfig& model, HfQuantization::LinearClass linear_class);

/// Trits and scales of a whole layer.
struct Matrix {
  std::vector<int8_t> trits;
  std::vector<float> scales;
  bool operator==(const Matrix&) const = default;
};
[[nodiscard]] Matrix read_linear(const Checkpoint& checkpoint, const std::string& name);
/// Every linear layer has the model's trits and (within `tolerance`, relative) scales.
void expect_same_linears(const Checkpoint& checkpoint, const SmallModel& model, float tolerance = 0.0f);
void expect_same_linears(const Checkpoint& left, const Checkpoint& right, float tolerance = 0.0f);

/// The error that `action` throws.
[[nodiscard]] Error error_of(const std::function<void()>& action);

}  // namespace bitnet::testing
