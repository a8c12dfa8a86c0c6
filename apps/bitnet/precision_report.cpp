#include "precision_report.h"

#include "bitnet/core/error.h"
#include "text.h"

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

std::string reason(const std::optional<size_t>& rule) {
  return rule ? fmt::format("rules[{}]", *rule) : std::string("table");
}

std::string format_name(const std::optional<DType>& dtype) {
  return dtype ? std::string(to_string(*dtype)) : std::string("keep");
}

}  // namespace

PrecisionPolicy read_policy(const std::string& name_or_path) {
  if (const auto strategy = strategy_from_name(name_or_path)) return {name_or_path, *strategy, {}};
  std::string text;
  try {
    text = read_input(name_or_path);
  } catch (const Error& error) {
    throw Error(error.code(), error.message(),
                "--policy takes a JSON file, or conservative, balanced or aggressive");
  }
  try {
    PrecisionPolicy policy = precision_policy_from_json(text);
    if (policy.name.empty()) policy.name = name_or_path;
    return policy;
  } catch (Error& error) {
    error.with_context(name_or_path);
    throw;
  }
}

PrecisionPlan plan_precision(const PrecisionPolicy& policy, const Container& container) {
  std::vector<StoredTensor> tensors;
  tensors.reserve(container.tensors.size());
  for (const TensorRow& row : container.tensors) {
    tensors.push_back({row.name, row.dtype, row.shape, row.bytes});
  }
  return bitnet::plan_precision(policy, tensors);
}

Json precision_json(const PrecisionPolicy& policy, const PrecisionPlan& plan) {
  Json json = {{"name", policy.name}, {"base", to_string(policy.base)}};
  json["tensors"] = Json::array();
  for (const PlannedTensor& tensor : plan.tensors) {
    Json row = {{"name", tensor.stored.name},
                {"layer", to_string(tensor.layer)},
                {"component", to_string(tensor.component)},
                {"shape", tensor.stored.shape},
                {"dtype_now", to_string(tensor.stored.dtype)},
                {"dtype_then", to_string(tensor.dtype)},
                {"bytes_now", tensor.stored.bytes},
                {"bytes_then", tensor.bytes},
                {"decided_by", reason(tensor.rule)}};
    if (!tensor.kept.empty()) row["kept"] = tensor.kept;
    json["tensors"].push_back(std::move(row));
  }
  json["components"] = Json::object();
  for (const PlannedComponent& component : plan.components) {
    json["components"][std::string(to_string(component.component))] = {
        {"dtype", format_name(component.dtype)}, {"decided_by", reason(component.rule)}};
  }
  json["totals"] = {{"bytes_now", plan.bytes_now}, {"bytes_then", plan.bytes_then}};
  return json;
}

std::string precision_text(const PrecisionPolicy& policy, const PrecisionPlan& plan) {
  std::string text =
      fmt::format("precision plan: {} (base {})\n", escape_controls(policy.name), to_string(policy.base));
  for (const PlannedTensor& tensor : plan.tensors) {
    text += fmt::format("  {:<44} {:<11} {:>10} -> {:<8} {:>12} -> {:>12}  {}\n",
                        escape_controls(tensor.stored.name), to_string(tensor.layer),
                        to_string(tensor.stored.dtype), to_string(tensor.dtype), tensor.stored.bytes,
                        tensor.bytes, tensor.kept.empty() ? reason(tensor.rule) : std::string(tensor.kept));
  }
  text += "\nwhat no file stores\n";
  for (const PlannedComponent& component : plan.components) {
    text += fmt::format("  {:<17} {:<8} {}\n", to_string(component.component), format_name(component.dtype),
                        reason(component.rule));
  }
  text += fmt::format("\ntotals\n  now  {:>16} bytes ({})\n  then {:>16} bytes ({})\n", plan.bytes_now,
                      format_bytes(plan.bytes_now), plan.bytes_then, format_bytes(plan.bytes_then));
  return text;
}

}  // namespace bitnet::cli
