#pragma once

#include "bitnet/core/dtype.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet {

/// Mixed precision: which number format each part of a model gets, as a table or as rules of a file, and what
/// that costs in bytes. A plan changes nothing; docs/CLI.md has the file's format.

enum class LayerType : uint8_t {
  kLinear,
  kConvolution,
  kAttention,  ///< projections of queries, keys, values and outputs
  kEmbedding,
  kNorm,
  kActivation,  ///< learned parameters of an activation function
  kOutput,      ///< the head
  kOther,
};

enum class ModelComponent : uint8_t {
  kWeights,
  kBias,
  kActivations,
  kGradients,
  kIntermediate,
  kAttentionScores,
  kKvCache,
};

enum class PrecisionStrategy : uint8_t { kConservative, kBalanced, kAggressive };

[[nodiscard]] std::string_view to_string(LayerType layer);
[[nodiscard]] std::string_view to_string(ModelComponent component);
[[nodiscard]] std::string_view to_string(PrecisionStrategy strategy);

/// The table for a layer's weights: conservative, balanced, aggressive.
///   linear, convolution  qint8  ternary  ternary      activation  f16  qint8  qint4
///   attention            f16    qint8    qint8        output      f16  f16    qint8
///   embedding            f16    f16      qint8        other       f32  f16    qint8
///   norm                 f32    f16      f16
[[nodiscard]] DType layer_precision(LayerType layer, PrecisionStrategy strategy);

/// The table for components.
///   weights        qint8  ternary  ternary            intermediate      f16    f16    qint8
///   bias           f16    f16      qint8              attention_scores  f32    f16    f16
///   activations    f16    qint8    qint4              kv_cache          qint8  qint8  qint4
///   gradients      f32    f16      f16
[[nodiscard]] DType component_precision(ModelComponent component, PrecisionStrategy strategy);

/// Holds for what satisfies every condition that is set. Conditions on names and sizes hold for tensors only.
struct PrecisionRule {
  std::optional<LayerType> layer;
  std::optional<ModelComponent> component;
  std::optional<std::string> name, name_prefix, name_suffix, name_contains;
  std::optional<int64_t> min_elements, max_elements;
  std::optional<DType> use;  ///< nothing: as it is stored
};

struct PrecisionPolicy {
  std::string name;
  /// Decides what no rule does: a bias by component, other tensors by layer.
  PrecisionStrategy base = PrecisionStrategy::kBalanced;
  std::vector<PrecisionRule> rules;  ///< the first that holds decides
};

/// "conservative", "balanced", "aggressive", or nothing.
[[nodiscard]] std::optional<PrecisionStrategy> strategy_from_name(std::string_view name);

/// Throws kCorruptData for text that is not JSON or values of the wrong type, kConfiguration for unknown
/// keys, names and formats, naming the rule and what is allowed.
[[nodiscard]] PrecisionPolicy precision_policy_from_json(std::string_view text);

/// A tensor of a model file, under the file's name.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t bytes = 0;
};

struct PlannedTensor {
  StoredTensor stored;  ///< packed Hugging Face weights as hf_ternary with the shape that they stand for
  LayerType layer = LayerType::kOther;
  ModelComponent component = ModelComponent::kWeights;
  std::optional<size_t> rule;  ///< its index; nothing: the table
  DType dtype = DType::kF32;   ///< the plan's
  int64_t bytes = 0;           ///< the plan's, with scales
  std::string_view kept;       ///< why it stays as it is; empty where it changes
};

struct PlannedComponent {
  ModelComponent component = ModelComponent::kActivations;
  std::optional<size_t> rule;
  std::optional<DType> dtype;  ///< nothing: a rule says to keep it, but no file stores it
};

struct PrecisionPlan {
  std::vector<PlannedTensor> tensors;        ///< in the order given
  std::vector<PlannedComponent> components;  ///< those that no file stores
  int64_t bytes_now = 0, bytes_then = 0;
};

/// Layer and component come from the names of GGUF files and Hugging Face folders. A tensor stays as it is if
/// the policy says so, if it holds scales or integers, or if it is stored in no more bits than the policy
/// gives it: a wider format could not bring back what is lost. Bytes of a planned tensor: its elements, and
/// f32 scales: one for a ternary tensor, one for each row (last axis) of qint8 and qint4.
/// Throws kCorruptData for a shape with a negative size or of more elements than any file holds (2^48).
[[nodiscard]] PrecisionPlan plan_precision(const PrecisionPolicy& policy,
                                           std::span<const StoredTensor> tensors);

/// Layer type and component of a tensor, by its name.
[[nodiscard]] std::pair<LayerType, ModelComponent> classify_tensor(std::string_view name);

}  // namespace bitnet
