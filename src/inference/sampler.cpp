#include "bitnet/inference/sampler.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// splitmix64: a counter-based generator.   Source: Steele, Lea, Flood, OOPSLA 2014.
uint64_t splitmix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

void require(bool holds, const char* setting, double found, const char* range) {
  if (holds) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is {}, but must be {}", setting, found, range));
}

template <class Candidate>
bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/// Probabilities of candidates sorted by rank, in double, summed from the front.
template <class Candidate>
std::vector<double> softmax(const std::vector<Candidate>& candidates, double temperature) {
  std::vector<double> weights(candidates.size());
  double total = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] =
        std::exp((static_cast<double>(candidates[i].logit) - candidates.front().logit) / temperature);
    total += weights[i];
  }
  for (double& weight : weights) weight /= total;
  return weights;
}

/// The least count whose probabilities sum to at least `share`.
size_t nucleus(const std::vector<double>& probabilities, double share) {
  double sum = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    sum += probabilities[i];
    if (sum >= share) return i + 1;
  }
  return probabilities.size();
}

/// Keeps the candidates whose surprise is nearest to the entropy, up to the share p.
///   Source: Meister et al., "Locally typical sampling", arXiv:2202.00666.
template <class Candidate>
void keep_typical(std::vector<Candidate>& candidates, double p) {
  const std::vector<double> probabilities = softmax(candidates, 1.0);
  double entropy = 0;
  for (const double probability : probabilities) {
    if (probability > 0) entropy -= probability * std::log(probability);
  }
  struct Typical {
    double distance, probability;
    size_t index;
  };
  std::vector<Typical> order(candidates.size());
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = {std::abs(-std::log(probabilities[i]) - entropy), probabilities[i], i};
  }
  std::sort(order.begin(), order.end(), [](const Typical& a, const Typical& b) {
    return a.distance < b.distance || (a.distance == b.distance && a.index < b.index);
  });
  double sum = 0;
  size_t count = 0;
  while (count < order.size() && sum < p) sum += order[count++].probability;
  order.resize(std::max<size_t>(count, 1));
  std::sort(order.begin(), order.end(), [](const Typical& a, const Typical& b) { return a.index < b.index; });
  for (size_t i = 0; i < order.size(); ++i) candidates[i] = candidates[order[i].index];
  candidates.resize(order.size());
}

}  // namespace

void SamplerOptions::validate() const {
  require(std::isfinite(temperature) && temperature >= 0, "temperature", temperature,
          "finite and at least 0");
  require(top_k >= 0, "top_k", top_k, "at least 0 (0: off)");
  require(top_p > 0 && top_p <= 1, "top_p", top_p, "in (0, 1]");
  require(min_p >= 0 && min_p <= 1, "min_p", min_p, "in [0, 1]");
  require(typical_p > 0 && typical_p <= 1, "typical_p", typical_p, "in (0, 1]");
  require(std::isfinite(repetition_penalty) && repetition_penalty > 0, "repetition_penalty",
          repetition_penalty, "finite and above 0 (1: off)");
  require(std::isfinite(frequency_penalty), "frequency_penalty", frequency_penalty, "finite");
  require(std::isfinite(presence_penalty), "presence_penalty", presence_penalty, "finite");
  require(penalty_window >= -1, "penalty_window", penalty_window, "at least -1 (-1: all tokens)");
  for (const auto& [token, bias] : logit_bias) {
    require(!std::isnan(bias) && bias != std::numeric_limits<float>::infinity(), "a logit bias", bias,
            "a number below +infinity");
  }
}

Sampler::Sampler(SamplerOptions options, int64_t vocab_size)
    : options_(std::move(options)), vocab_size_(vocab_size) {
  options_.validate();
  for (const auto& [token, bias] : options_.logit_bias) {
    if (token >= 0 && token < vocab_size) continue;
    throw Error(ErrorCode::kOutOfRange,
                fmt::format("logit bias for token {}, outside the vocabulary [0, {})", token, vocab_size));
  }
}

void Sampler::accept(int32_t token) {
  if (options_.penalty_window != 0) history_.push_back(token);
}

double Sampler::next_uniform() {
  const uint64_t bits = splitmix64(splitmix64(options_.seed) + counter_++);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

void Sampler::apply_penalties(std::vector<Candidate>& candidates) const {
  for (const auto& [token, bias] : options_.logit_bias) candidates[static_cast<size_t>(token)].logit += bias;
  if (options_.repetition_penalty == 1 && options_.frequency_penalty == 0 && options_.presence_penalty == 0)
    return;
  const size_t window = options_.penalty_window < 0
                            ? history_.size()
                            : std::min(history_.size(), static_cast<size_t>(options_.penalty_window));
  std::unordered_map<int32_t, int> counts;
  for (size_t i = history_.size() - window; i < history_.size(); ++i) ++counts[history_[i]];
  for (const auto& [token, count] : counts) {
    if (token < 0 || token >= vocab_size_) continue;
    float& logit = candidates[static_cast<size_t>(token)].logit;
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    logit -= options_.frequency_penalty * static_cast<float>(count) + options_.presence_penalty;
  }
}

int32_t Sampler::sample(std::span<const float> logits) {
  if (static_cast<int64_t>(logits.size()) != vocab_size_) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("{} logits for a vocabulary of {}", logits.size(), vocab_size_));
  }
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) candidates_[i] = {static_cast<int32_t>(i), logits[i]};
  apply_penalties(candidates_);
  std::erase_if(candidates_, [](const Candidate& c) { return !std::isfinite(c.logit); });
  if (candidates_.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no logit is finite",
                "the model's weights are damaged, or logit_bias forbids every token");
  }
  const auto ranks = [](const Candidate& a, const Candidate& b) { return ranks_before(a, b); };
  if (options_.temperature == 0) return std::min_element(candidates_.begin(), candidates_.end(), ranks)->id;

  const size_t top_k = options_.top_k == 0
                           ? candidates_.size()
                           : std::min(candidates_.size(), static_cast<size_t>(options_.top_k));
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(top_k),
                    candidates_.end(), ranks);
  candidates_.resize(top_k);
  if (options_.typical_p < 1) keep_typical(candidates_, options_.typical_p);
  if (options_.top_p < 1) candidates_.resize(nucleus(softmax(candidates_, 1.0), options_.top_p));
  if (options_.min_p > 0) {
    // p >= min_p * p_max, in logits.
    const double least = candidates_.front().logit + std::log(static_cast<double>(options_.min_p));
    std::erase_if(candidates_, [least](const Candidate& c) { return c.logit < least; });
  }
  const std::vector<double> probabilities = softmax(candidates_, options_.temperature);
  const double draw = next_uniform();
  double sum = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    sum += probabilities[i];
    if (draw < sum) return candidates_[i].id;
  }
  return candidates_.back().id;
}

}  // namespace bitnet
