#pragma once

#include "bitnet/tensor/create.h"

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// Indices of the sequences of each batch.
using Batches = std::vector<std::vector<int64_t>>;

enum class BatchOrder : uint8_t {
  kAsGiven,
  kShuffled,         ///< sequences in random order
  kByLength,         ///< shortest first, equals as given: the least padding
  kByLengthShuffled  ///< equals in random order, then the batches in random order
};

struct BatchLimits {
  /// Of a batch with its padding: sequences * longest.
  int64_t max_tokens = 8192;
  int64_t max_sequences = INT64_MAX;
};

/// Every index of `lengths` in exactly one batch. Sequences are taken in order, and a batch ends before the
/// one that would break a limit. The order is a function of `key` alone: equal on every machine.
/// Throws kInvalidArgument for limits below 1 or negative lengths, kOutOfRange for a sequence that is alone
/// too long.
[[nodiscard]] Batches make_batches(std::span<const int64_t> lengths, const BatchLimits& limits,
                                   BatchOrder order = BatchOrder::kByLength, RandomKey key = {});

/// Tokens / tokens with padding, over all batches; 1 of none. Throws kOutOfRange for an index beyond lengths.
[[nodiscard]] double padding_efficiency(std::span<const int64_t> lengths, const Batches& batches);

/// 0 ... count - 1 in random order: the shuffle of Fisher and Yates (Knuth, TAOCP 3.4.2 P) with 64 Philox
/// bits for each step. Throws kInvalidArgument for a negative count.
[[nodiscard]] std::vector<int64_t> random_permutation(int64_t count, RandomKey key);

}  // namespace bitnet
