#include "bitnet/core/error.h"
#include "bitnet/model/precision_policy.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// More than any file holds; so few that no sum of bytes below overflows.
constexpr int64_t kMostElements = int64_t{1} << 48;

bool holds_any(std::string_view name, std::initializer_list<std::string_view> parts) {
  return std::ranges::any_of(
      parts, [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

bool is_scale(std::string_view name) {
  return name.ends_with("_scale") || name.ends_with(".scale");
}

LayerType layer_of(std::string_view name) {
  // Norms first: attn_norm and self_attn.q_proj.rms_norm belong to attention, but are norms.
  if (holds_any(name, {"norm", "_ln.", "layernorm", "ln_"})) return LayerType::kNorm;
  if (holds_any(name, {"token_embd", "embed_tokens", "embedding", "position_embd"})) {
    return LayerType::kEmbedding;
  }
  if (name.starts_with("output.") || holds_any(name, {"lm_head"})) return LayerType::kOutput;
  if (holds_any(name, {"attn_", "self_attn.", "attention."})) return LayerType::kAttention;
  if (holds_any(name, {"conv"})) return LayerType::kConvolution;
  if (holds_any(name, {"ffn_", "mlp.", "_proj.", "linear", "fc"})) return LayerType::kLinear;
  if (holds_any(name, {"prelu", "act_fn", "activation"})) return LayerType::kActivation;
  return LayerType::kOther;
}

/// What a rule looks at. Components that no file stores have no tensor and no layer.
struct Subject {
  ModelComponent component;
  std::optional<LayerType> layer;
  const StoredTensor* tensor = nullptr;
};

bool name_holds(const PrecisionRule& rule, std::string_view name) {
  return (!rule.name || name == *rule.name) && (!rule.name_prefix || name.starts_with(*rule.name_prefix)) &&
         (!rule.name_suffix || name.ends_with(*rule.name_suffix)) &&
         (!rule.name_contains || name.find(*rule.name_contains) != std::string_view::npos);
}

bool holds(const PrecisionRule& rule, const Subject& subject) {
  if (rule.layer && rule.layer != subject.layer) return false;
  if (rule.component && *rule.component != subject.component) return false;
  const bool of_tensors = rule.name || rule.name_prefix || rule.name_suffix || rule.name_contains ||
                          rule.min_elements || rule.max_elements;
  if (!of_tensors) return true;
  if (subject.tensor == nullptr || !name_holds(rule, subject.tensor->name)) return false;
  const int64_t elements = element_count(subject.tensor->shape);
  return elements >= rule.min_elements.value_or(0) && elements <= rule.max_elements.value_or(INT64_MAX);
}

std::optional<size_t> first_rule(const PrecisionPolicy& policy, const Subject& subject) {
  for (size_t i = 0; i < policy.rules.size(); ++i) {
    if (holds(policy.rules[i], subject)) return i;
  }
  return std::nullopt;
}

int64_t planned_bytes(DType dtype, const Shape& shape) {
  const int64_t elements = element_count(shape);
  const DTypeInfo& info = dtype_info(dtype);
  const int64_t blocks = elements / info.block_elements + (elements % info.block_elements != 0 ? 1 : 0);
  const int64_t row = shape.empty() ? 1 : shape.back();
  int64_t scales = 0;
  if (dtype == DType::kTernary) scales = 1;
  if (dtype == DType::kQInt8 || dtype == DType::kQInt4) scales = row == 0 ? 0 : elements / row;
  return blocks * info.block_bytes + scales * int64_t{sizeof(float)};
}

/// Why a tensor cannot or need not change, before any rule.
std::string_view why_kept(const StoredTensor& tensor) {
  if (is_scale(tensor.name)) return "holds scales";
  if (is_plain(tensor.dtype) && !is_floating(tensor.dtype)) return "holds integers";
  return {};
}

PlannedTensor plan_tensor(const PrecisionPolicy& policy, StoredTensor stored) {
  PlannedTensor plan;
  std::tie(plan.layer, plan.component) = classify_tensor(stored.name);
  plan.dtype = stored.dtype;
  plan.bytes = stored.bytes;
  plan.kept = why_kept(stored);
  if (plan.kept.empty()) {
    plan.rule = first_rule(policy, {plan.component, plan.layer, &stored});
    std::optional<DType> wanted;
    if (plan.rule) {
      wanted = policy.rules[*plan.rule].use;
    } else {
      wanted = plan.component == ModelComponent::kBias ? component_precision(plan.component, policy.base)
                                                       : layer_precision(plan.layer, policy.base);
    }
    if (!wanted) {
      plan.kept = "the rule keeps it";
    } else if (bits_per_element(stored.dtype) <= bits_per_element(*wanted)) {
      plan.kept = "stored in no more bits";
    } else {
      plan.dtype = *wanted;
      plan.bytes = planned_bytes(*wanted, stored.shape);
    }
  }
  plan.stored = std::move(stored);
  return plan;
}

/// Hugging Face's packed matrix, u8 [N / 4, K] beside a scale, as the [N, K] trits that it means.
StoredTensor unpacked(const StoredTensor& tensor, const std::set<std::string_view>& names) {
  StoredTensor result = tensor;
  if (tensor.dtype != DType::kU8 || tensor.shape.size() != 2 || !names.contains(tensor.name + "_scale")) {
    return result;
  }
  result.dtype = DType::kHfTernary;
  result.shape[0] *= 4;
  return result;
}

}  // namespace

std::pair<LayerType, ModelComponent> classify_tensor(std::string_view name) {
  const bool bias = name.ends_with(".bias") || name.ends_with("_bias");
  return {layer_of(name), bias ? ModelComponent::kBias : ModelComponent::kWeights};
}

PrecisionPlan plan_precision(const PrecisionPolicy& policy, std::span<const StoredTensor> tensors) {
  std::set<std::string_view> names;
  for (const StoredTensor& tensor : tensors) names.insert(tensor.name);
  PrecisionPlan plan;
  for (const StoredTensor& tensor : tensors) {
    if (element_count(tensor.shape) > kMostElements) {
      throw Error(ErrorCode::kCorruptData, fmt::format("tensor {}: no file holds a tensor of shape {}",
                                                       tensor.name, to_string(tensor.shape)));
    }
    plan.tensors.push_back(plan_tensor(policy, unpacked(tensor, names)));
    plan.bytes_now += tensor.bytes;
    plan.bytes_then += plan.tensors.back().bytes;
  }
  for (const ModelComponent component :
       {ModelComponent::kActivations, ModelComponent::kGradients, ModelComponent::kIntermediate,
        ModelComponent::kAttentionScores, ModelComponent::kKvCache}) {
    PlannedComponent planned{component, first_rule(policy, {component, std::nullopt}), std::nullopt};
    planned.dtype = planned.rule ? policy.rules[*planned.rule].use
                                 : std::optional(component_precision(component, policy.base));
    plan.components.push_back(planned);
  }
  return plan;
}

}  // namespace bitnet
