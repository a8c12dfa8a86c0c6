#pragma once

#include "bitnet/model/config.h"

#include <string_view>
#include <vector>

namespace bitnet {

/// What an architecture string implies in files that say nothing else.
struct ArchitectureDefaults {
  std::string_view architecture;
  Activation activation;
  bool sub_norms;
  /// GGUF files hold the rows of q and k in the order of interleaved RoPE.
  bool permuted_in_gguf;
};

/// Throws kUnsupported with the list of those known.
[[nodiscard]] const ArchitectureDefaults& architecture_defaults(std::string_view architecture);

[[nodiscard]] std::string_view to_string(Activation activation);
/// "silu" or "relu2"; throws kUnsupported.
[[nodiscard]] Activation activation_from_name(std::string_view name);

/// The Llama 3 rule as divisors of the frequencies, what GGUF's rope_freqs.weight holds: inv_freq[i] /
/// factor[i]. Source: transformers modeling_rope_utils, _compute_llama3_parameters.
[[nodiscard]] std::vector<float> llama3_rope_factors(const ModelConfig& config);

}  // namespace bitnet
