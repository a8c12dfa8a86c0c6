#include "bitnet/core/error.h"
#include "bitnet/model/convert.h"
#include "model/config_rules.h"

#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bitnet {
namespace {

struct Preset {
  std::string_view name, architecture;
  int64_t vocab_size, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim,
      max_position;
  float rms_norm_eps;
  double rope_theta;
  bool tied_head;
};

// From the models' config.json (docs/MODELS.md). The two of Falcon-E are approximations that meet the
// published parameter counts.
constexpr std::array<Preset, 10> kPresets = {{
    {"bitnet-b1.58-2b-4t", "bitnet-b1.58", 128256, 2560, 6912, 30, 20, 5, 128, 4096, 1e-5f, 500000, true},
    {"bitnet_b1_58-large", "bitnet", 32002, 1536, 4096, 24, 16, 16, 96, 2048, 1e-5f, 10000, true},
    {"bitnet_b1_58-3b", "bitnet", 32002, 3200, 8640, 26, 32, 32, 100, 2048, 1e-5f, 10000, true},
    {"llama3-8b-1.58", "llama", 128256, 4096, 14336, 32, 32, 8, 128, 8192, 1e-5f, 500000, false},
    {"falcon3-1b", "llama", 131072, 2048, 8192, 18, 8, 4, 256, 8192, 1e-6f, 1000042, false},
    {"falcon3-3b", "llama", 131072, 3072, 9216, 22, 12, 4, 256, 32768, 1e-6f, 1000042, false},
    {"falcon3-7b", "llama", 131072, 3072, 23040, 28, 12, 4, 256, 32768, 1e-6f, 1000042, false},
    {"falcon3-10b", "llama", 131072, 3072, 23040, 40, 12, 4, 256, 32768, 1e-6f, 1000042, false},
    {"falcon-e-1b", "llama", 32768, 2048, 8192, 28, 16, 2, 128, 8192, 1e-5f, 1000042, false},
    {"falcon-e-3b", "llama", 32768, 2048, 13312, 32, 16, 2, 128, 32768, 1e-5f, 1000042, false},
}};

}  // namespace

ModelConfig synth_preset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name != name) continue;
    const ArchitectureDefaults& defaults = architecture_defaults(preset.architecture);
    ModelConfig config;
    config.architecture = preset.architecture;
    config.name = fmt::format("{} (random weights)", preset.name);
    config.vocab_size = preset.vocab_size;
    config.hidden_size = preset.hidden_size;
    config.intermediate_size = preset.intermediate_size;
    config.num_layers = preset.num_layers;
    config.num_heads = preset.num_heads;
    config.num_kv_heads = preset.num_kv_heads;
    config.head_dim = preset.head_dim;
    config.max_position = preset.max_position;
    config.rms_norm_eps = preset.rms_norm_eps;
    config.rope_theta = preset.rope_theta;
    config.activation = defaults.activation;
    config.tied_head = preset.tied_head;
    config.sub_norms = defaults.sub_norms;
    return config;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("'{}' is not one of {}", name, fmt::join(synth_preset_names(), ", ")));
}

std::vector<std::string> synth_preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

}  // namespace bitnet
