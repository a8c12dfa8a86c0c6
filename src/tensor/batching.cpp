#include "bitnet/tensor/batching.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

namespace bitnet {
namespace {

__extension__ using Wide = unsigned __int128;

/// A stream of its own for the order of the batches, so that it does not repeat that of the sequences.
constexpr uint64_t kBatchStream = 0x6261'7463'6865'7300ULL;  // "batches"

void check(std::span<const int64_t> lengths, const BatchLimits& limits) {
  if (limits.max_tokens < 1 || limits.max_sequences < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("make_batches: limits must be at least 1, found {} tokens and {} sequences",
                            limits.max_tokens, limits.max_sequences));
  }
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] < 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("make_batches: sequence {} has the length {}", i, lengths[i]));
    }
    if (lengths[i] > limits.max_tokens) {
      throw Error(ErrorCode::kOutOfRange,
                  fmt::format("make_batches: sequence {} has {} tokens, a batch may have {}", i, lengths[i],
                              limits.max_tokens),
                  "truncate it, or allow more tokens");
    }
  }
}

std::vector<int64_t> order_of(std::span<const int64_t> lengths, BatchOrder order, RandomKey key) {
  const auto count = static_cast<int64_t>(lengths.size());
  std::vector<int64_t> indices;
  if (order == BatchOrder::kShuffled || order == BatchOrder::kByLengthShuffled) {
    indices = random_permutation(count, key);
  } else {
    indices.resize(lengths.size());
    std::iota(indices.begin(), indices.end(), int64_t{0});
  }
  if (order == BatchOrder::kByLength || order == BatchOrder::kByLengthShuffled) {
    std::ranges::stable_sort(indices, {}, [&](int64_t i) { return lengths[static_cast<size_t>(i)]; });
  }
  return indices;
}

}  // namespace

std::vector<int64_t> random_permutation(int64_t count, RandomKey key) {
  if (count < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("random_permutation: the count must not be negative, found {}", count));
  }
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t i = order.size(); i > 1; --i) {
    const auto words = philox(key, i);
    const uint64_t random = (static_cast<uint64_t>(words[0]) << 32) | words[1];
    // The product's high word: uniform in [0, i) to i / 2^64.
    std::swap(order[i - 1], order[static_cast<size_t>((Wide{random} * i) >> 64)]);
  }
  return order;
}

Batches make_batches(std::span<const int64_t> lengths, const BatchLimits& limits, BatchOrder order,
                     RandomKey key) {
  check(lengths, limits);
  Batches batches;
  int64_t longest = 0;
  for (const int64_t index : order_of(lengths, order, key)) {
    longest = std::max(longest, lengths[static_cast<size_t>(index)]);
    const int64_t size = batches.empty() ? 0 : static_cast<int64_t>(batches.back().size());
    // size + 1 sequences of `longest` tokens, without a product that could overflow.
    const bool fits = longest == 0 || size + 1 <= limits.max_tokens / longest;
    if (batches.empty() || size == limits.max_sequences || !fits) {
      batches.emplace_back();
      longest = lengths[static_cast<size_t>(index)];
    }
    batches.back().push_back(index);
  }
  if (order == BatchOrder::kByLengthShuffled) {
    Batches shuffled;
    for (const int64_t i :
         random_permutation(static_cast<int64_t>(batches.size()), {key.seed, key.stream ^ kBatchStream})) {
      shuffled.push_back(std::move(batches[static_cast<size_t>(i)]));
    }
    return shuffled;
  }
  return batches;
}

double padding_efficiency(std::span<const int64_t> lengths, const Batches& batches) {
  int64_t tokens = 0, padded = 0;
  for (const std::vector<int64_t>& batch : batches) {
    int64_t longest = 0;
    for (const int64_t index : batch) {
      if (index < 0 || static_cast<size_t>(index) >= lengths.size()) {
        throw Error(ErrorCode::kOutOfRange,
                    fmt::format("padding_efficiency: there is no sequence {} of {}", index, lengths.size()));
      }
      const int64_t length = lengths[static_cast<size_t>(index)];
      tokens += length;
      longest = std::max(longest, length);
    }
    padded += longest * static_cast<int64_t>(batch.size());
  }
  return padded == 0 ? 1 : static_cast<double>(tokens) / static_cast<double>(padded);
}

}  // namespace bitnet
