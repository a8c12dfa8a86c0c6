#pragma once

#include "bitnet/tensor/tensor.h"

#include <cstdint>
#include <span>

namespace bitnet {

/// Attention masks: bool tensors [..., queries, keys], true where the query may attend to the key. Query i of
/// Q stands at position i + K - Q of the K keys, so that the last query is the last key's, as with a cache.
/// Throw kInvalidArgument for negative sizes.

/// Keys up to the query's own: key <= position.
[[nodiscard]] Tensor causal_mask(int64_t queries, int64_t keys);

/// Keys less than `window` away, before and after: |key - position| < window. With causal_mask combined by
/// kAnd it is the sliding window of a decoder: the last `window` keys.
[[nodiscard]] Tensor sliding_window_mask(int64_t queries, int64_t keys, int64_t window);

/// Several sequences packed one behind the other: [T, T] with T the sum of the lengths, true within a
/// sequence.
[[nodiscard]] Tensor block_diagonal_mask(std::span<const int64_t> lengths);

/// Of tokens bool [B, L] (PaddedBatch::mask): [B, 1, L], true where the key is a token; broadcasts over
/// queries.
[[nodiscard]] Tensor padding_mask(const Tensor& tokens);

/// Of tokens bool [B, L]: [B, L, L], true where query and key both are tokens.
[[nodiscard]] Tensor bidirectional_mask(const Tensor& tokens);

enum class MaskOp : uint8_t { kAnd, kOr, kXor };
/// Element by element, with broadcasting. Throws kDTypeMismatch for other than bool, kBroadcast.
[[nodiscard]] Tensor combine(const Tensor& a, MaskOp op, const Tensor& b);

struct MaskStatistics {
  int64_t elements = 0, allowed = 0;
  int64_t queries = 0;           ///< rows: elements / keys
  int64_t blind_queries = 0;     ///< rows without a key, whose softmax is undefined
  int64_t fewest = 0, most = 0;  ///< keys of a row
  /// allowed / elements; 0 of none.
  [[nodiscard]] double density() const {
    return elements == 0 ? 0 : static_cast<double>(allowed) / static_cast<double>(elements);
  }
};
/// Of a mask with at least one axis.
[[nodiscard]] MaskStatistics mask_statistics(const Tensor& mask);

}  // namespace bitnet
