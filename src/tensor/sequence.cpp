#include "bitnet/tensor/sequence.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/create.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include <fmt/format.h>

namespace bitnet {
namespace {

void require_not_negative(int64_t value, std::string_view function, std::string_view what) {
  if (value >= 0) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: {} must not be negative, found {}", function, what, value));
}

int64_t longest_of(std::span<const TokenSequence> sequences) {
  size_t longest = 0;
  for (const TokenSequence& sequence : sequences) longest = std::max(longest, sequence.size());
  return static_cast<int64_t>(longest);
}

int64_t padded_length(std::span<const TokenSequence> sequences, const Padding& padding) {
  require_not_negative(padding.length, "pad", "the length");
  const int64_t longest = longest_of(sequences);
  switch (padding.to) {
    case Padding::To::kNone:
      for (const TokenSequence& sequence : sequences) {
        if (static_cast<int64_t>(sequence.size()) == longest) continue;
        throw Error(ErrorCode::kShapeMismatch,
                    fmt::format("pad: without padding all sequences must have one length, found {} and {}",
                                longest, sequence.size()));
      }
      return longest;
    case Padding::To::kLongest:
      return longest;
    case Padding::To::kFixed:
      return padding.length;
    case Padding::To::kMaxLength:
      return std::min(longest, padding.length);
    case Padding::To::kMultiple:
      if (padding.length == 0) {
        throw Error(ErrorCode::kInvalidArgument, "pad: the multiple must be at least 1, found 0");
      }
      // No sum beyond the result, which may be far beyond memory.
      return longest % padding.length == 0 ? longest : longest + (padding.length - longest % padding.length);
  }
  throw Error(ErrorCode::kInternal, "pad: unknown mode");
}

double interpolate(std::span<const int64_t> sorted, double percent) {
  const double position = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const auto low = static_cast<double>(sorted[below]), high = static_cast<double>(sorted[above]);
  return low + (position - static_cast<double>(below)) * (high - low);
}

std::optional<SequenceFault> fault_of_ids(const TokenSequence& sequence, int64_t index,
                                          const SequenceRules& rules) {
  for (size_t i = 0; i < sequence.size(); ++i) {
    const int32_t id = sequence[i];
    const auto position = static_cast<int64_t>(i);
    if (id < rules.lowest_id || id > rules.highest_id) {
      return SequenceFault{index, position,
                           fmt::format("sequence {}: id {} at {} must be in [{}, {}]", index, id, i,
                                       rules.lowest_id, rules.highest_id)};
    }
    if (std::ranges::find(rules.forbidden_ids, id) != rules.forbidden_ids.end()) {
      return SequenceFault{index, position,
                           fmt::format("sequence {}: id {} at {} is forbidden", index, id, i)};
    }
  }
  return std::nullopt;
}

}  // namespace

TokenSequence truncate(std::span<const int32_t> sequence, int64_t max_length, Truncation truncation) {
  require_not_negative(max_length, "truncate", "the length");
  const auto length = static_cast<int64_t>(sequence.size());
  const int64_t excess = length - max_length;
  if (excess <= 0) return {sequence.begin(), sequence.end()};
  int64_t first = 0;
  switch (truncation) {
    case Truncation::kNone:
      throw Error(ErrorCode::kOutOfRange,
                  fmt::format("truncate: a sequence may have {} tokens, found {}", max_length, length),
                  "choose a truncation, or a longer maximum");
    case Truncation::kLeft:
      first = excess;
      break;
    case Truncation::kRight:
      break;
    case Truncation::kBothEnds:
      first = excess / 2;
      break;
  }
  const auto kept = sequence.subspan(static_cast<size_t>(first), static_cast<size_t>(max_length));
  return {kept.begin(), kept.end()};
}

std::vector<int64_t> fit_to_budget(std::span<const int64_t> lengths, int64_t budget) {
  require_not_negative(budget, "fit_to_budget", "the budget");
  for (const int64_t length : lengths) require_not_negative(length, "fit_to_budget", "a length");
  // Taking from the longest levels them at a cap. Find the highest cap that fits, shortest first.
  std::vector<int64_t> sorted(lengths.begin(), lengths.end());
  std::ranges::sort(sorted);
  std::vector<int64_t> result(lengths.begin(), lengths.end());
  int64_t left = budget;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const auto remaining = static_cast<int64_t>(sorted.size() - i);
    const int64_t cap = left / remaining;
    if (sorted[i] <= cap) {
      left -= sorted[i];
      continue;
    }
    int64_t spare = left % remaining;  // one token more for the first sequences
    for (int64_t& length : result) {
      if (length <= cap) continue;
      length = cap + (spare > 0 ? 1 : 0);
      spare -= spare > 0 ? 1 : 0;
    }
    break;
  }
  return result;
}

std::vector<TokenSequence> truncate_to_budget(std::span<const TokenSequence> sequences, int64_t budget,
                                              Truncation truncation) {
  const std::vector<int64_t> lengths = fit_to_budget(lengths_of(sequences), budget);
  std::vector<TokenSequence> result;
  result.reserve(sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    result.push_back(truncate(sequences[i], lengths[i], truncation));
  }
  return result;
}

double PaddedBatch::efficiency() const {
  if (ids.numel() == 0) return 1;
  const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  return static_cast<double>(tokens) / static_cast<double>(ids.numel());
}

PaddedBatch pad(std::span<const TokenSequence> sequences, const Padding& padding) {
  const int64_t length = padded_length(sequences, padding);
  const auto rows = static_cast<int64_t>(sequences.size());
  PaddedBatch batch;
  batch.side = padding.side;
  batch.ids = full({rows, length}, padding.pad_id, DType::kI32);
  batch.mask = zeros({rows, length}, DType::kBool);
  auto* ids = batch.ids.data<int32_t>();
  auto* mask = batch.mask.data<bool>();
  for (int64_t row = 0; row < rows; ++row) {
    const TokenSequence kept = truncate(sequences[static_cast<size_t>(row)], length, padding.truncation);
    const auto count = static_cast<int64_t>(kept.size());
    const int64_t first = row * length + (padding.side == Side::kLeft ? length - count : 0);
    std::ranges::copy(kept, ids + first);
    std::fill_n(mask + first, count, true);
    batch.lengths.push_back(count);
  }
  return batch;
}

std::vector<TokenSequence> unpad(const PaddedBatch& batch) {
  std::vector<TokenSequence> sequences;
  for (size_t row = 0; row < batch.lengths.size(); ++row) {
    const auto ids = to_vector<int32_t>(batch.ids.select(0, static_cast<int64_t>(row)));
    const auto count = static_cast<std::ptrdiff_t>(batch.lengths[row]);
    if (batch.side == Side::kLeft) {
      sequences.emplace_back(ids.end() - count, ids.end());
    } else {
      sequences.emplace_back(ids.begin(), ids.begin() + count);
    }
  }
  return sequences;
}

TokenSequence strip(std::span<const int32_t> sequence, int32_t pad_id, Side side) {
  const auto is_token = [&](int32_t id) { return id != pad_id; };
  if (side == Side::kLeft) {
    return {std::ranges::find_if(sequence, is_token), sequence.end()};
  }
  return {sequence.begin(), std::find_if(sequence.rbegin(), sequence.rend(), is_token).base()};
}

double percentile(std::span<const int64_t> values, double percent) {
  if (values.empty() || !(percent >= 0 && percent <= 100)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("percentile: needs values and a percentage in [0, 100], found {} values and {}",
                            values.size(), percent));
  }
  std::vector<int64_t> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  return interpolate(sorted, percent);
}

LengthStatistics length_statistics(std::span<const int64_t> lengths) {
  LengthStatistics result;
  if (lengths.empty()) return result;
  std::vector<int64_t> sorted(lengths.begin(), lengths.end());
  std::ranges::sort(sorted);
  result.count = static_cast<int64_t>(sorted.size());
  result.total = std::accumulate(sorted.begin(), sorted.end(), int64_t{0});
  result.shortest = sorted.front();
  result.longest = sorted.back();
  result.mean = static_cast<double>(result.total) / static_cast<double>(result.count);
  double squares = 0;
  for (const int64_t length : sorted) {
    const double distance = static_cast<double>(length) - result.mean;
    squares += distance * distance;
  }
  result.deviation = std::sqrt(squares / static_cast<double>(result.count));
  result.median = interpolate(sorted, 50);
  result.p90 = interpolate(sorted, 90);
  result.p95 = interpolate(sorted, 95);
  result.p99 = interpolate(sorted, 99);
  const double lower = interpolate(sorted, 25), upper = interpolate(sorted, 75);
  const double reach = 1.5 * (upper - lower);
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto length = static_cast<double>(lengths[i]);
    if (length < lower - reach || length > upper + reach) {
      result.outliers.push_back(static_cast<int64_t>(i));
    }
  }
  return result;
}

std::vector<int64_t> lengths_of(std::span<const TokenSequence> sequences) {
  std::vector<int64_t> lengths;
  lengths.reserve(sequences.size());
  for (const TokenSequence& sequence : sequences) lengths.push_back(static_cast<int64_t>(sequence.size()));
  return lengths;
}

std::vector<SequenceFault> validate(std::span<const TokenSequence> sequences, const SequenceRules& rules) {
  if (rules.min_length > rules.max_length || rules.lowest_id > rules.highest_id) {
    throw Error(ErrorCode::kConfiguration,
                fmt::format("validate: no sequence has a length in [{}, {}] and ids in [{}, {}]",
                            rules.min_length, rules.max_length, rules.lowest_id, rules.highest_id));
  }
  std::vector<SequenceFault> faults;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    const auto length = static_cast<int64_t>(sequences[i].size());
    if (length < rules.min_length || length > rules.max_length) {
      faults.push_back({index, -1,
                        fmt::format("sequence {}: its length must be in [{}, {}], found {}", i,
                                    rules.min_length, rules.max_length, length)});
    }
    if (auto fault = fault_of_ids(sequences[i], index, rules)) faults.push_back(*std::move(fault));
  }
  return faults;
}

}  // namespace bitnet
