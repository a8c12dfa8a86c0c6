#include "bitnet/inference/sampler.h"

#include "bitnet/core/error.h"
#include "kernels/exp64.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
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

bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/// A float's bits as an integer that falls where the float rises; both zeros are one.
uint32_t descending_key(float logit) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.0f);
  return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
}

/// Sorts candidates that are in order of id by rank: a stable radix sort of three 11-bit digits, because a
/// vocabulary takes a comparison sort longer than a token should take.
void sort_by_rank(std::vector<Candidate>& candidates) {
  constexpr int kBits = 11, kDigits = 3;
  constexpr size_t kBuckets = size_t{1} << kBits, kSmall = 1024;
  if (candidates.size() < kSmall) {
    std::sort(candidates.begin(), candidates.end(), ranks_before);
    return;
  }
  std::vector<Candidate> sorted(candidates.size());
  std::vector<size_t> place(kBuckets);
  for (int digit = 0; digit < kDigits; ++digit) {
    const auto bucket = [digit](const Candidate& c) {
      return descending_key(c.logit) >> (digit * kBits) & (kBuckets - 1);
    };
    std::fill(place.begin(), place.end(), size_t{0});
    for (const Candidate& candidate : candidates) ++place[bucket(candidate)];
    std::exclusive_scan(place.begin(), place.end(), place.begin(), size_t{0});
    for (const Candidate& candidate : candidates) sorted[place[bucket(candidate)]++] = candidate;
    candidates.swap(sorted);
  }
}

/// Probabilities of candidates sorted by rank, in double, summed from the front.
std::vector<double> softmax(const std::vector<Candidate>& candidates, double temperature) {
  std::vector<double> weights(candidates.size());
  double total = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] =
        kernels::exp64((static_cast<double>(candidates[i].logit) - candidates.front().logit) / temperature);
  }
  for (const double weight : weights) total += weight;
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

double Sampler::uniform(int64_t later) const {
  const uint64_t bits = splitmix64(splitmix64(options_.seed) + counter_ + static_cast<uint64_t>(later));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

bool Sampler::penalizes() const {
  return options_.repetition_penalty != 1 || options_.frequency_penalty != 0 ||
         options_.presence_penalty != 0;
}

std::span<const int32_t> Sampler::window() const {
  const size_t count = options_.penalty_window < 0
                           ? history_.size()
                           : std::min(history_.size(), static_cast<size_t>(options_.penalty_window));
  return std::span(history_).last(count);
}

/// In candidates_, which is in order of id.
float& Sampler::logit_of(int32_t token) {
  const auto found = std::lower_bound(candidates_.begin(), candidates_.end(), token,
                                      [](const Candidate& c, int32_t id) { return c.id < id; });
  if (found == candidates_.end() || found->id != token)
    throw Error(ErrorCode::kInvalidArgument, fmt::format("the candidates lack token {}", token),
                "sample from what query() names, in order of id");
  return found->logit;
}

void Sampler::apply_penalties() {
  for (const auto& [token, bias] : options_.logit_bias) logit_of(token) += bias;
  if (!penalizes()) return;
  std::unordered_map<int32_t, int> counts;
  for (const int32_t token : window()) ++counts[token];
  for (const auto& [token, count] : counts) {
    if (token < 0 || token >= vocab_size_) continue;
    float& logit = logit_of(token);
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    logit -= options_.frequency_penalty * static_cast<float>(count) + options_.presence_penalty;
  }
}

std::optional<TopQuery> Sampler::query() {
  if (options_.temperature != 0 && options_.top_k == 0) return std::nullopt;
  changed_.clear();
  for (const auto& [token, bias] : options_.logit_bias) changed_.push_back(token);
  if (penalizes()) {
    for (const int32_t token : window()) {
      if (token >= 0 && token < vocab_size_) changed_.push_back(token);
    }
  }
  return TopQuery{options_.temperature == 0 ? 1 : options_.top_k, changed_};
}

int32_t Sampler::sample(std::span<const float> logits) {
  if (static_cast<int64_t>(logits.size()) != vocab_size_) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("{} logits for a vocabulary of {}", logits.size(), vocab_size_));
  }
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) candidates_[i] = {static_cast<int32_t>(i), logits[i]};
  return choose();
}

int32_t Sampler::sample(std::span<const Candidate> logits) {
  if (!query()) {
    throw Error(ErrorCode::kInvalidArgument, "without top_k all logits decide, not some candidates",
                "set top_k or temperature 0, or give all logits");
  }
  candidates_.assign(logits.begin(), logits.end());
  return choose();
}

int32_t Sampler::choose() {
  apply_penalties();
  std::erase_if(candidates_, [](const Candidate& c) { return !std::isfinite(c.logit); });
  if (candidates_.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no logit is finite",
                "the model's weights are damaged, or logit_bias forbids every token");
  }
  if (options_.temperature == 0)
    return std::min_element(candidates_.begin(), candidates_.end(), ranks_before)->id;
  const auto top_k = static_cast<size_t>(options_.top_k);
  if (top_k == 0 || top_k >= candidates_.size()) {
    sort_by_rank(candidates_);
  } else {
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(top_k);
    std::partial_sort(candidates_.begin(), end, candidates_.end(), ranks_before);
    candidates_.resize(top_k);
  }
  if (options_.typical_p < 1) keep_typical(candidates_, options_.typical_p);
  if (options_.top_p < 1) candidates_.resize(nucleus(softmax(candidates_, 1.0), options_.top_p));
  if (options_.min_p > 0) {
    // p >= min_p * p_max, in logits.
    const double least = candidates_.front().logit + std::log(static_cast<double>(options_.min_p));
    std::erase_if(candidates_, [least](const Candidate& c) { return c.logit < least; });
  }
  return draw();
}

int32_t Sampler::draw() {
  const std::vector<double> probabilities = softmax(candidates_, options_.temperature);
  const double number = uniform();
  skip_draw();
  double sum = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    sum += probabilities[i];
    if (number < sum) return candidates_[i].id;
  }
  return candidates_.back().id;
}

}  // namespace bitnet
