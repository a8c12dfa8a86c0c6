#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/model/config.h"
#include "bitnet/tokenizer/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// A dense tensor as it lies in the file.
struct DenseSource {
  std::string name;  ///< canonical (GGUF) name
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
};

/// A linear layer's matrix [rows, cols], row by row as trits and scale, whatever the file stores:
///   packed      HF uint8 with weight_scale (both meanings), I2_S, TQ1_0, TQ2_0, IQ2_BN
///   exact       float weights whose values are {-s, 0, +s}: taken as they are (F16 exports of ternary
///   models) master      other float weights: quantized on load, s = absmean over the whole tensor
/// Rows are in the engine's order (q and k of llama GGUF files are un-permuted to half-split RoPE).
/// read_rows is safe from several threads.
class TernarySource {
 public:
  enum class Kind { kPacked, kExactFloat, kMaster };
  virtual ~TernarySource() = default;
  [[nodiscard]] virtual Kind kind() const = 0;
  [[nodiscard]] virtual DType stored_dtype() const = 0;
  [[nodiscard]] virtual int64_t rows() const = 0;
  [[nodiscard]] virtual int64_t cols() const = 0;
  /// trits is [count, cols] row-major; scales [count].
  virtual void read_rows(int64_t first, int64_t count, std::span<int8_t> trits,
                         std::span<float> scales) const = 0;
  /// Master and exact-float sources only: the stored values, in the engine's row order.
  virtual void read_float_rows(int64_t first, int64_t count, std::span<float> values) const = 0;
  /// The file's pages of this tensor may leave memory (after it was repacked).
  virtual void drop_resident() const = 0;
};

/// A model file or folder, opened and checked: the neutral view from which the engine loads and `convert`
/// writes. Canonical names are GGUF's: token_embd, output, output_norm, blk.N.{attn_norm, attn_q, attn_k,
/// attn_v, attn_sub_norm, attn_output, ffn_norm, ffn_gate, ffn_up, ffn_sub_norm, ffn_down}.weight, and with
/// projection norms blk.N.{attn_q,attn_k,attn_v,attn_output,ffn_gate,ffn_up,ffn_down}_norm_in.weight.
class Checkpoint {
 public:
  enum class Format { kGguf, kHuggingFace };

  /// A .gguf file or a Hugging Face folder. Checks that every tensor that the config asks for is there with
  /// the right shape, that no scale is NaN, and that no tensor is left over unexplained (logged as a
  /// warning). Throws kNotFound, kCorruptData, kUnsupported, kIo, each with the file and tensor as context.
  static Checkpoint open(const std::filesystem::path& path);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  [[nodiscard]] Format format() const;
  [[nodiscard]] const std::filesystem::path& path() const;
  [[nodiscard]] const ModelConfig& config() const;
  /// Nothing if the model has none (it still runs from token ids).
  [[nodiscard]] const std::optional<TokenizerSpec>& tokenizer() const;
  /// All of the model's stop tokens: the tokenizer's, config.json's and generation_config.json's.
  [[nodiscard]] const std::vector<int32_t>& stop_tokens() const;

  /// The beginning-of-text token, from the tokenizer or else the configuration.
  [[nodiscard]] std::optional<int32_t> bos_token() const;

  /// Norms, embedding, head, in model order. dense("output.weight") is absent when the head is tied.
  [[nodiscard]] const std::vector<DenseSource>& dense_tensors() const;
  [[nodiscard]] const DenseSource& dense(std::string_view name) const;  ///< kNotFound if absent
  /// Names of the linear layers, in model order.
  [[nodiscard]] const std::vector<std::string>& linear_names() const;
  [[nodiscard]] const TernarySource& linear(std::string_view name) const;

 private:
  Checkpoint();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A dense tensor as f32 (norm weights and other small ones).
[[nodiscard]] std::vector<float> read_dense(const DenseSource& source);

}  // namespace bitnet
