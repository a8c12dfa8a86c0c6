#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/inference/sampler.h"
#include "bitnet/inference/session.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace bitnet {

/// Keys and values of one sequence, where its runner keeps them.
class SequenceCache {
 public:
  virtual ~SequenceCache() = default;
  [[nodiscard]] virtual int64_t bytes() const = 0;
  /// Moves positions [from, end) down by `count`, rotating keys by -count positions.
  virtual void shift(int64_t from, int64_t end, int64_t count) = 0;
  /// As Session::save and Session::load.
  virtual void save(const std::filesystem::path& path, std::span<const int32_t> tokens) const = 0;
  [[nodiscard]] virtual std::vector<int32_t> load(const std::filesystem::path& path) = 0;
};

/// One token of a batch. Its keys and values go to `position` of its sequence's cache. Rows of one sequence
/// follow one another in a batch, in order of position without gaps; rows of several sequences may share a
/// batch.
struct RunnerRow {
  int32_t id;
  int64_t position;
  SequenceCache* cache;  ///< made by the same runner
};

/// How the token behind a row is drawn: Sampler's greedy choice, or its chain of top-k, top-p, min-p and
/// temperature.
struct TokenDraw {
  int32_t k;           ///< 1 if greedy
  double temperature;  ///< 0: greedy
  double top_p;        ///< 1: off
  double log_min_p;    ///< -infinity: off
  double number;       ///< Sampler::uniform()
};

/// Steps of one token a sequence whose tokens are drawn where the model runs: none waits for the host.
class DrawingSteps {
 public:
  virtual ~DrawingSteps() = default;
  /// Steps that may be queued and not taken.
  static constexpr int64_t kMostQueued = 2;
  [[nodiscard]] virtual bool can_draw(const TokenDraw& draw) const = 0;
  /// Queues a step for rows of distinct sequences. `follow`: their ids are what the step queued before, of as
  /// many rows, draws; else those given.
  virtual void queue(std::span<const RunnerRow> rows, std::span<const TokenDraw> draws, bool follow) = 0;
  /// Waits for the oldest step that is queued: the token of each row, -1 where only all logits decide. What
  /// follows such a step is worth nothing.
  virtual void take(std::span<int32_t> tokens) = 0;
  /// Waits for all that is queued and forgets it.
  virtual void drop() noexcept = 0;
};

/// The forward pass on one device: what an Engine needs of it.
class Runner {
 public:
  virtual ~Runner() = default;
  /// The kernels' name: an instruction set, or "cuda".
  [[nodiscard]] virtual std::string_view kernels() const = 0;
  [[nodiscard]] virtual int threads() const = 0;
  [[nodiscard]] virtual std::unique_ptr<SequenceCache> make_cache() const = 0;
  /// Tokens that one run can take.
  [[nodiscard]] virtual int64_t batch() const = 0;
  /// Runs all layers for the rows, at most the batch. Afterwards their hidden states are ready for logits().
  virtual void run(std::span<const RunnerRow> rows) = 0;
  /// The most rows of one call of logits() and top(), at most kMaxLogits.
  [[nodiscard]] virtual int64_t logits_at_once() const = 0;
  static constexpr int64_t kMaxLogits = 64;
  /// Logits of rows of the last run by index, [rows.size(), vocab_size] row-major.
  virtual void logits(std::span<const int64_t> rows, std::span<float> out) = 0;
  /// out[i] = those logits of row rows[i] that queries[i] names, and perhaps more, in order of id.
  virtual void top(std::span<const int64_t> rows, std::span<const TopQuery> queries,
                   std::span<std::vector<Candidate>> out) = 0;
  /// Null where tokens are drawn from logits() and top() alone.
  [[nodiscard]] virtual DrawingSteps* drawing_steps() { return nullptr; }
  /// As Session::activations().
  [[nodiscard]] virtual const std::vector<LayerActivations>& activations() const = 0;
};

}  // namespace bitnet
