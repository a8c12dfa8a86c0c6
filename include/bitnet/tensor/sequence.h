#pragma once

#include "bitnet/tensor/tensor.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace bitnet {

/// Sequences of token ids of different lengths, and the rectangles that a batch needs: truncation, padding,
/// statistics, checks. Lengths are tokens. Masks: bitnet/tensor/mask.h, batches: bitnet/tensor/batching.h.
using TokenSequence = std::vector<int32_t>;

enum class Side : uint8_t { kLeft, kRight };

/// Which tokens go where a sequence is too long. One that fits is never touched.
enum class Truncation : uint8_t {
  kNone,      ///< too long is an error
  kLeft,      ///< the first tokens
  kRight,     ///< the last tokens
  kBothEnds,  ///< as many at both ends, the odd one on the right: the middle stays
};

/// Cuts to at most max_length tokens. Throws kOutOfRange for kNone and a longer sequence, kInvalidArgument
/// for a negative length.
[[nodiscard]] TokenSequence truncate(std::span<const int32_t> sequence, int64_t max_length,
                                     Truncation truncation);

/// The lengths that remain when tokens are taken one by one from the longest sequence (the last one of
/// several) until all together have at most `budget`. Throws kInvalidArgument for negative numbers.
[[nodiscard]] std::vector<int64_t> fit_to_budget(std::span<const int64_t> lengths, int64_t budget);

/// Cuts every sequence to its length by fit_to_budget. Of the parts of one input (a question and a context)
/// that is "longest first", of a batch a bound of its tokens. kNone as in truncate.
[[nodiscard]] std::vector<TokenSequence> truncate_to_budget(std::span<const TokenSequence> sequences,
                                                            int64_t budget, Truncation truncation);

struct Padding {
  enum class To : uint8_t {
    kNone,       ///< all sequences have one length already
    kLongest,    ///< of this batch
    kFixed,      ///< `length`
    kMaxLength,  ///< the longest, but at most `length`
    kMultiple,   ///< the longest, rounded up to a multiple of `length`
  };
  To to = To::kLongest;
  int64_t length = 0;
  Side side = Side::kRight;
  int32_t pad_id = 0;
  Truncation truncation = Truncation::kNone;  ///< of what kFixed and kMaxLength find too long
};

/// A rectangle of ids.
struct PaddedBatch {
  Tensor ids;                    ///< i32 [B, L]
  Tensor mask;                   ///< bool [B, L], true where there is a token
  std::vector<int64_t> lengths;  ///< [B]: tokens without padding
  Side side = Side::kRight;      ///< where the padding is

  /// Tokens / (B * L); 1 where there is nothing.
  [[nodiscard]] double efficiency() const;
};

/// Throws kShapeMismatch (kNone), what truncate throws, and kInvalidArgument for a `length` that is negative
/// or, of kMultiple, 0.
[[nodiscard]] PaddedBatch pad(std::span<const TokenSequence> sequences, const Padding& padding);

/// The sequences without their padding, by length: tokens that equal the padding's id stay.
[[nodiscard]] std::vector<TokenSequence> unpad(const PaddedBatch& batch);

/// Without the run of `pad_id` at one side: for ids that came without lengths.
[[nodiscard]] TokenSequence strip(std::span<const int32_t> sequence, int32_t pad_id, Side side);

struct LengthStatistics {
  int64_t count = 0, total = 0, shortest = 0, longest = 0;
  double mean = 0, deviation = 0;  ///< of the population: divided by count
  double median = 0, p90 = 0, p95 = 0, p99 = 0;
  /// Indices, ascending, of lengths more than 1.5 interquartile ranges beyond the quartiles (Tukey, 1977).
  std::vector<int64_t> outliers;
};
/// All 0 of no lengths.
[[nodiscard]] LengthStatistics length_statistics(std::span<const int64_t> lengths);

/// The value below which `percent` percent lie, between neighbours by interpolation (NumPy's "linear").
/// Throws kInvalidArgument for no values or a percentage outside [0, 100].
[[nodiscard]] double percentile(std::span<const int64_t> values, double percent);

[[nodiscard]] std::vector<int64_t> lengths_of(std::span<const TokenSequence> sequences);

/// What sequences must satisfy; bounds are inclusive.
struct SequenceRules {
  int64_t min_length = 1, max_length = INT64_MAX;
  int32_t lowest_id = 0, highest_id = INT32_MAX;
  std::vector<int32_t> forbidden_ids;
};
struct SequenceFault {
  int64_t sequence = 0;
  int64_t position = -1;  ///< of the first id at fault; -1 for a length
  std::string message;
};
/// At most one fault of length and one of ids for each sequence, in order; empty if all is well. Throws
/// kConfiguration for rules that no sequence can satisfy.
[[nodiscard]] std::vector<SequenceFault> validate(std::span<const TokenSequence> sequences,
                                                  const SequenceRules& rules);

}  // namespace bitnet
