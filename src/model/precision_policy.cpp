#include "bitnet/model/precision_policy.h"

#include "bitnet/core/error.h"
#include "model/json_object.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace bitnet {
namespace {

using Row = std::array<DType, 3>;  // by PrecisionStrategy

struct NamedRow {
  std::string_view name;
  Row row;
};

constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kI8 = DType::kQInt8, kI4 = DType::kQInt4,
                kTernary = DType::kTernary;

// By LayerType.
constexpr std::array<NamedRow, 8> kLayers = {{
    {"linear", {kI8, kTernary, kTernary}},
    {"convolution", {kI8, kTernary, kTernary}},
    {"attention", {kF16, kI8, kI8}},
    {"embedding", {kF16, kF16, kI8}},
    {"norm", {kF32, kF16, kF16}},
    {"activation", {kF16, kI8, kI4}},
    {"output", {kF16, kF16, kI8}},
    {"other", {kF32, kF16, kI8}},
}};

// By ModelComponent.
constexpr std::array<NamedRow, 7> kComponents = {{
    {"weights", {kI8, kTernary, kTernary}},
    {"bias", {kF16, kF16, kI8}},
    {"activations", {kF16, kI8, kI4}},
    {"gradients", {kF32, kF16, kF16}},
    {"intermediate", {kF16, kF16, kI8}},
    {"attention_scores", {kF32, kF16, kF16}},
    {"kv_cache", {kI8, kI8, kI4}},
}};

constexpr std::array<std::string_view, 3> kStrategies = {"conservative", "balanced", "aggressive"};

constexpr std::array<DType, 6> kFormats = {kF32, kF16, DType::kBF16, kI8, kI4, kTernary};

constexpr std::array<std::string_view, 3> kTopKeys = {"name", "base", "rules"};
constexpr std::array<std::string_view, 2> kRuleKeys = {"when", "use"};
constexpr std::array<std::string_view, 8> kConditions = {"layer",        "component",   "name",
                                                         "name_prefix",  "name_suffix", "name_contains",
                                                         "min_elements", "max_elements"};

template <class Names>
[[noreturn]] void refuse(std::string_view where, std::string_view what, std::string_view found,
                         const Names& allowed) {
  throw Error(ErrorCode::kConfiguration, fmt::format("{}: unknown {} '{}'", where, what, found),
              fmt::format("allowed: {}", fmt::join(allowed, ", ")));
}

template <class Keys>
void allow_only(const nlohmann::json& object, std::string_view where, const Keys& allowed) {
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(allowed, key) == allowed.end()) refuse(where, "key", key, allowed);
  }
}

template <size_t count>
std::array<std::string_view, count> names_of(const std::array<NamedRow, count>& rows) {
  std::array<std::string_view, count> names;
  std::ranges::transform(rows, names.begin(), &NamedRow::name);
  return names;
}

/// The enumerator of that name, whose value is its place in `names`.
template <class Enum, class Names>
std::optional<Enum> find_name(const std::optional<std::string>& name, const Names& names,
                              std::string_view where, std::string_view what) {
  if (!name) return std::nullopt;
  const auto found = std::ranges::find(names, *name);
  if (found == names.end()) refuse(where, what, *name, names);
  return static_cast<Enum>(found - names.begin());
}

std::optional<DType> read_format(const std::optional<std::string>& name, const std::string& where) {
  if (!name) {
    throw Error(ErrorCode::kConfiguration, fmt::format("{}: 'use' is missing", where),
                "say which format the rule gives, or \"keep\"");
  }
  if (*name == "keep") return std::nullopt;
  for (const DType format : kFormats) {
    if (to_string(format) == *name) return format;
  }
  std::array<std::string_view, kFormats.size() + 1> names = {"keep"};
  std::ranges::transform(kFormats, names.begin() + 1, [](DType dtype) { return to_string(dtype); });
  refuse(where, "format", *name, names);
}

std::optional<int64_t> read_size(const JsonObject& when, std::string_view key, const std::string& where) {
  const auto size = when.integer(key);
  if (size && *size < 0) {
    throw Error(ErrorCode::kConfiguration,
                fmt::format("{}: '{}' must not be negative, found {}", where, key, *size));
  }
  return size;
}

PrecisionRule read_rule(const nlohmann::json& json, size_t index) {
  const std::string where = fmt::format("rules[{}]", index);
  const JsonObject object(json, where + ".");
  allow_only(json, where, kRuleKeys);
  PrecisionRule rule;
  rule.use = read_format(object.string("use"), where);
  const auto when = object.object("when");
  if (!when) return rule;  // holds always: a last rule that changes the default
  allow_only(json["when"], where + ".when", kConditions);
  rule.layer = find_name<LayerType>(when->string("layer"), names_of(kLayers), where, "layer");
  rule.component =
      find_name<ModelComponent>(when->string("component"), names_of(kComponents), where, "component");
  rule.name = when->string("name");
  rule.name_prefix = when->string("name_prefix");
  rule.name_suffix = when->string("name_suffix");
  rule.name_contains = when->string("name_contains");
  rule.min_elements = read_size(*when, "min_elements", where);
  rule.max_elements = read_size(*when, "max_elements", where);
  if (rule.min_elements && rule.max_elements && *rule.min_elements > *rule.max_elements) {
    throw Error(ErrorCode::kConfiguration, fmt::format("{}: no size is at least {} and at most {}", where,
                                                       *rule.min_elements, *rule.max_elements));
  }
  return rule;
}

}  // namespace

std::string_view to_string(LayerType layer) {
  return kLayers.at(static_cast<size_t>(layer)).name;
}

std::string_view to_string(ModelComponent component) {
  return kComponents.at(static_cast<size_t>(component)).name;
}

std::string_view to_string(PrecisionStrategy strategy) {
  return kStrategies.at(static_cast<size_t>(strategy));
}

DType layer_precision(LayerType layer, PrecisionStrategy strategy) {
  return kLayers.at(static_cast<size_t>(layer)).row.at(static_cast<size_t>(strategy));
}

DType component_precision(ModelComponent component, PrecisionStrategy strategy) {
  return kComponents.at(static_cast<size_t>(component)).row.at(static_cast<size_t>(strategy));
}

std::optional<PrecisionStrategy> strategy_from_name(std::string_view name) {
  const auto* found = std::ranges::find(kStrategies, name);
  if (found == kStrategies.end()) return std::nullopt;
  return static_cast<PrecisionStrategy>(found - kStrategies.begin());
}

PrecisionPolicy precision_policy_from_json(std::string_view text) {
  const nlohmann::json json = JsonObject::parse(text);
  const JsonObject top(json, "");
  allow_only(json, "the policy", kTopKeys);
  PrecisionPolicy policy;
  policy.name = top.string("name").value_or("");
  policy.base = find_name<PrecisionStrategy>(top.string("base"), kStrategies, "the policy", "base")
                    .value_or(PrecisionStrategy::kBalanced);
  const auto rules = json.find("rules");
  if (rules == json.end()) return policy;
  if (!rules->is_array()) {
    throw Error(ErrorCode::kCorruptData,
                fmt::format("'rules' must be a list of objects, found {}", rules->type_name()));
  }
  for (size_t i = 0; i < rules->size(); ++i) policy.rules.push_back(read_rule((*rules)[i], i));
  return policy;
}

}  // namespace bitnet
