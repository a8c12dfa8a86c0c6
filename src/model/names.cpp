#include "model/names.h"

#include "bitnet/core/error.h"

#include <array>

#include <fmt/format.h>

namespace bitnet {
namespace {

struct PartName {
  std::string_view part, hf, alternative;
};

constexpr std::array<PartName, 18> kParts = {{
    {"attn_norm", "input_layernorm", ""},
    {"attn_q", "self_attn.q_proj", ""},
    {"attn_k", "self_attn.k_proj", ""},
    {"attn_v", "self_attn.v_proj", ""},
    {"attn_sub_norm", "self_attn.attn_sub_norm", "self_attn.inner_attn_ln"},
    {"attn_output", "self_attn.o_proj", ""},
    {"ffn_norm", "post_attention_layernorm", ""},
    {"ffn_gate", "mlp.gate_proj", ""},
    {"ffn_up", "mlp.up_proj", ""},
    {"ffn_sub_norm", "mlp.ffn_sub_norm", "mlp.ffn_layernorm"},
    {"ffn_down", "mlp.down_proj", ""},
    {"attn_q_norm_in", "self_attn.q_proj.rms_norm", "self_attn.q_proj.norm"},
    {"attn_k_norm_in", "self_attn.k_proj.rms_norm", "self_attn.k_proj.norm"},
    {"attn_v_norm_in", "self_attn.v_proj.rms_norm", "self_attn.v_proj.norm"},
    {"attn_output_norm_in", "self_attn.o_proj.rms_norm", "self_attn.o_proj.norm"},
    {"ffn_gate_norm_in", "mlp.gate_proj.rms_norm", "mlp.gate_proj.norm"},
    {"ffn_up_norm_in", "mlp.up_proj.rms_norm", "mlp.up_proj.norm"},
    {"ffn_down_norm_in", "mlp.down_proj.rms_norm", "mlp.down_proj.norm"},
}};

void add_layer(const ModelConfig& config, int64_t layer, std::vector<TensorRole>& roles) {
  const auto norm = [&](std::string_view part, int64_t size) {
    roles.push_back({layer_tensor(layer, part), TensorKind::kNorm, {size}, false});
  };
  const auto linear = [&](std::string_view part, int64_t rows, int64_t cols, bool rotary = false) {
    if (config.projection_norms) norm(fmt::format("{}_norm_in", part), cols);
    roles.push_back({layer_tensor(layer, part), TensorKind::kLinear, {rows, cols}, rotary});
  };
  const int64_t hidden = config.hidden_size;
  norm("attn_norm", hidden);
  linear("attn_q", config.q_size(), hidden, true);
  linear("attn_k", config.kv_size(), hidden, true);
  linear("attn_v", config.kv_size(), hidden);
  if (config.sub_norms) norm("attn_sub_norm", config.q_size());
  linear("attn_output", hidden, config.q_size());
  norm("ffn_norm", hidden);
  linear("ffn_gate", config.intermediate_size, hidden);
  linear("ffn_up", config.intermediate_size, hidden);
  if (config.sub_norms) norm("ffn_sub_norm", config.intermediate_size);
  linear("ffn_down", hidden, config.intermediate_size);
}

}  // namespace

std::string layer_tensor(int64_t layer, std::string_view part) {
  return fmt::format("blk.{}.{}.weight", layer, part);
}

std::vector<TensorRole> tensor_roles(const ModelConfig& config) {
  std::vector<TensorRole> roles;
  roles.push_back(
      {"token_embd.weight", TensorKind::kEmbedding, {config.vocab_size, config.hidden_size}, false});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) add_layer(config, layer, roles);
  roles.push_back({"output_norm.weight", TensorKind::kNorm, {config.hidden_size}, false});
  if (!config.tied_head) {
    roles.push_back(
        {"output.weight", TensorKind::kEmbedding, {config.vocab_size, config.hidden_size}, false});
  }
  return roles;
}

std::vector<std::string> hf_tensor_names(std::string_view canonical) {
  if (canonical == "token_embd.weight") return {"model.embed_tokens.weight"};
  if (canonical == "output_norm.weight") return {"model.norm.weight"};
  if (canonical == "output.weight") return {"lm_head.weight"};
  constexpr std::string_view kPrefix = "blk.", kSuffix = ".weight";
  if (canonical.starts_with(kPrefix) && canonical.ends_with(kSuffix)) {
    std::string_view rest =
        canonical.substr(kPrefix.size(), canonical.size() - kPrefix.size() - kSuffix.size());
    const size_t dot = rest.find('.');
    const std::string_view layer = rest.substr(0, dot);
    const std::string_view part = dot == std::string_view::npos ? std::string_view{} : rest.substr(dot + 1);
    for (const PartName& entry : kParts) {
      if (entry.part != part) continue;
      std::vector<std::string> names = {fmt::format("model.layers.{}.{}.weight", layer, entry.hf)};
      if (!entry.alternative.empty()) {
        names.push_back(fmt::format("model.layers.{}.{}.weight", layer, entry.alternative));
      }
      return names;
    }
  }
  throw Error(ErrorCode::kInternal,
              fmt::format("hf_tensor_names: '{}' is not a canonical tensor name", canonical));
}

}  // namespace bitnet
