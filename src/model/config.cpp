#include "bitnet/model/config.h"

#include "bitnet/core/error.h"
#include "model/config_rules.h"

#include <array>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;

constexpr std::array<ArchitectureDefaults, 4> kArchitectures = {{
    {"bitnet-b1.58", Activation::kRelu2, true, false},
    {"bitnet-25", Activation::kRelu2, true, false},
    {"bitnet", Activation::kSilu, true, false},
    {"llama", Activation::kSilu, false, true},
}};

[[noreturn]] void corrupt(std::string message) {
  throw Error(ErrorCode::kCorruptData, std::move(message),
              "the model's configuration is damaged or incomplete");
}

void check_dimension(std::string_view name, int64_t value, int64_t maximum) {
  if (value < 1 || value > maximum) {
    corrupt(fmt::format("{} must be in [1, {}], found {}", name, maximum, value));
  }
}

void check_real(std::string_view name, double value) {
  if (!std::isfinite(value) || value <= 0)
    corrupt(fmt::format("{} must be finite and positive, found {}", name, value));
}

void check_rope(const ModelConfig& config) {
  check_real("rope_theta", config.rope_theta);
  const RopeScaling& rope = config.rope_scaling;
  check_real("the RoPE scaling factor", rope.factor);
  if (rope.type == RopeScaling::Type::kLlama3) {
    check_real("low_freq_factor", rope.low_freq_factor);
    check_real("high_freq_factor", rope.high_freq_factor);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      corrupt(fmt::format("high_freq_factor must be above low_freq_factor, found {} and {}",
                          rope.high_freq_factor, rope.low_freq_factor));
    }
    check_dimension("original_max_position_embeddings", rope.original_max_position, int64_t{1} << 31);
  }
  if (config.rope_factors.empty()) return;
  if (static_cast<int64_t>(config.rope_factors.size()) != config.head_dim / 2) {
    corrupt(fmt::format("RoPE factors must be head_dim / 2 = {}, found {}", config.head_dim / 2,
                        config.rope_factors.size()));
  }
  for (const float factor : config.rope_factors) check_real("a RoPE factor", factor);
}

}  // namespace

const ArchitectureDefaults& architecture_defaults(std::string_view architecture) {
  for (const auto& entry : kArchitectures) {
    if (entry.architecture == architecture) return entry;
  }
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("architecture '{}' is not one of bitnet-b1.58, bitnet-25, bitnet, llama", architecture),
      "see docs/MODELS.md for the supported models");
}

std::string_view to_string(Activation activation) {
  return activation == Activation::kRelu2 ? "relu2" : "silu";
}

Activation activation_from_name(std::string_view name) {
  if (name == "relu2") return Activation::kRelu2;
  if (name == "silu") return Activation::kSilu;
  throw Error(ErrorCode::kUnsupported, fmt::format("activation '{}' is not one of relu2, silu", name),
              "see docs/MODELS.md for the supported models");
}

std::vector<float> llama3_rope_factors(const ModelConfig& config) {
  const RopeScaling& rope = config.rope_scaling;
  const double original = static_cast<double>(rope.original_max_position);
  const double longest = original / rope.low_freq_factor, shortest = original / rope.high_freq_factor;
  std::vector<float> factors;
  for (int64_t i = 0; i < config.head_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    const double wavelength = 2.0 * std::numbers::pi * std::pow(config.rope_theta, exponent);
    double factor = 1.0;
    if (wavelength > longest) {
      factor = rope.factor;
    } else if (wavelength >= shortest) {
      const double smooth =
          (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      factor = 1.0 / ((1.0 - smooth) / rope.factor + smooth);
    }
    factors.push_back(static_cast<float>(factor));
  }
  return factors;
}

void ModelConfig::validate() const {
  check_dimension("vocab_size", vocab_size, kMaxDimension);
  check_dimension("hidden_size", hidden_size, kMaxDimension);
  check_dimension("intermediate_size", intermediate_size, kMaxDimension);
  check_dimension("the number of layers", num_layers, kMaxLayers);
  check_dimension("the number of heads", num_heads, kMaxDimension);
  check_dimension("the number of key/value heads", num_kv_heads, kMaxDimension);
  check_dimension("head_dim", head_dim, kMaxDimension);
  check_dimension("the number of positions", max_position, kMaxDimension);
  // With this, no matrix has more than 2^48 elements: sizes in bytes cannot overflow.
  check_dimension("heads * head_dim", q_size(), kMaxDimension);
  if (head_dim % 2 != 0) corrupt(fmt::format("head_dim must be even for RoPE, found {}", head_dim));
  if (num_heads % num_kv_heads != 0) {
    corrupt(fmt::format("the number of heads must be a multiple of the key/value heads, found {} and {}",
                        num_heads, num_kv_heads));
  }
  check_real("rms_norm_eps", static_cast<double>(rms_norm_eps));
  if (projection_norms)
    check_real("the epsilon of the projection norms", static_cast<double>(projection_norm_eps));
  check_rope(*this);
}

}  // namespace bitnet
