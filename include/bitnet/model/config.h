#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

enum class Activation { kSilu, kRelu2 };

/// RoPE frequencies: inv_freq[i] = theta^(-2i/head_dim), then scaled.
struct RopeScaling {
  enum class Type { kNone, kLinear, kLlama3 };
  Type type = Type::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  ///< llama3
  int64_t original_max_position = 8192;                  ///< llama3
};

/// What a layer computes, independent of the file it came from.
struct ModelConfig {
  /// GGUF architecture string: "bitnet-b1.58" (also from HF model_type "bitnet"), "bitnet-25", "bitnet"
  /// (1bitLLM), "llama".
  std::string architecture;
  std::string name;
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0, max_position = 0;
  float rms_norm_eps = 1e-5f;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  std::vector<float>
      rope_factors;  ///< GGUF rope_freqs.weight: inv_freq[i] / factor[i]; [head_dim/2] or empty
  Activation activation = Activation::kRelu2;
  bool tied_head = true;
  bool sub_norms = true;          ///< attn_sub_norm and ffn_sub_norm exist
  bool projection_norms = false;  ///< an RMSNorm before each projection (use_rms_norm)
  float projection_norm_eps = 1e-6f;

  [[nodiscard]] int64_t q_size() const { return num_heads * head_dim; }
  [[nodiscard]] int64_t kv_size() const { return num_kv_heads * head_dim; }
  /// Throws kCorruptData if a dimension is absent, not positive, absurd (beyond 2^24; layers beyond 4096;
  /// vocabulary beyond 2^24), heads do not divide, head_dim is odd, or a real is not finite and positive.
  void validate() const;
};

/// How a Hugging Face folder stores its linear layers.
struct HfQuantization {
  enum class LinearClass { kBitLinear, kAutoBitLinear };
  LinearClass linear_class = LinearClass::kBitLinear;  ///< W = q / weight_scale, or q * weight_scale
  bool offline = true;                                 ///< false: master weights, quantized on load
  /// config.json says so itself (a quantization_config, or 1bitLLM's weight_bits); else these are defaults,
  /// and float weights that are not ternary are no BitNet's.
  bool declared = false;
};

struct HfConfig {
  ModelConfig model;
  HfQuantization quantization;
  std::vector<int32_t> eos_token_ids;
  std::optional<int32_t> bos_token_id;
  std::string torch_dtype;  ///< of the tensors that are not packed, e.g. "bfloat16"; may be empty
};

/// Parses config.json. Throws kCorruptData (bad JSON, wrong types, absurd values), kUnsupported (another
/// model type, RoPE type, activation, attention bias, quantization method: named).
[[nodiscard]] HfConfig hf_config_from_json(std::string_view text);
/// config.json of a folder: with a quantization_config if `declared`.
[[nodiscard]] std::string hf_config_to_json(const HfConfig& config);

class GgufFile;
class GgufWriter;
[[nodiscard]] ModelConfig config_from_gguf(const GgufFile& file);
void add_config_to_gguf(const ModelConfig& config, GgufWriter& writer);

}  // namespace bitnet
