#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/model/checkpoint.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace bitnet {

struct ConvertOptions {
  enum class Target { kGguf, kHuggingFace };
  Target target = Target::kGguf;
  /// Linear layers: GGUF kI2_S (default), kTQ1_0, kTQ2_0, kF16, kBF16, kF32; HF kHfTernary (default), kBF16,
  /// kF16, kF32.
  std::optional<DType> linear_type;
  /// Embedding and head: nothing keeps the source's type (HF cannot hold block types: f32 then, which is
  /// exact). GGUF kF32, kF16, kBF16, kQ8_0, kQ6_K, kQ4_0; HF kF32, kF16, kBF16.
  std::optional<DType> embedding_type;
  /// Called with bytes written and bytes in all.
  std::function<void(int64_t done, int64_t total)> progress;
};

/// What conversion did to the values, for the report.
struct ConvertReport {
  bool lossless = true;
  std::vector<std::string> losses;  ///< one line for each kind of loss, e.g. "scales rounded to f16 in tq2_0
                                    ///< blocks (relative error up to 4.9e-4)"
  /// What the user should know though no value changed, e.g. what other engines cannot read.
  std::vector<std::string> notes;
  int64_t bytes_written = 0;
  int64_t tensors = 0;
};

/// Streams `source` into `output` (a .gguf file, or a folder to create). Atomic: the target appears whole or
/// not at all. Peak memory stays below 1.3x the output. Throws kUnsupported, naming tensor and row length,
/// where a format cannot hold a tensor; kIo on a full disk.
ConvertReport convert(const Checkpoint& source, const std::filesystem::path& output,
                      const ConvertOptions& options);

/// A model of random ternary weights (and f16 embedding), with a byte-level tokenizer of that vocabulary,
/// written as GGUF with I2_S linears.
struct SynthOptions {
  ModelConfig config;
  uint64_t seed = 0;
  DType linear_type = DType::kI2_S;
  DType embedding_type = DType::kF16;
  /// Draw weights that close this share of the squared-ReLU gates (else half of them are): ClosedGates in
  /// src/model/synth_gates.h.
  std::optional<double> closed_gates;
  std::function<void(int64_t done, int64_t total)> progress;
};
/// "bitnet-b1.58-2b-4t", "bitnet_b1_58-large", "bitnet_b1_58-3b", "llama3-8b-1.58", "falcon3-1b",
/// "falcon3-3b", "falcon3-7b", "falcon3-10b", "falcon-e-1b", "falcon-e-3b". Throws kInvalidArgument with the
/// list.
[[nodiscard]] ModelConfig synth_preset(std::string_view name);
[[nodiscard]] std::vector<std::string> synth_preset_names();
void synthesize(const SynthOptions& options, const std::filesystem::path& output);

}  // namespace bitnet
