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

/// The forward pass on one device: what an Engine needs of it.
class Runner {
 public:
  virtual ~Runner() = default;
  /// The kernels' name: an instruction set, or "cuda".
  [[nodiscard]] virtual std::string_view kernels() const = 0;
  [[nodiscard]] virtual int threads() const = 0;
  [[nodiscard]] virtual std::unique_ptr<SequenceCache> make_cache() const = 0;
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
  /// As Session::activations().
  [[nodiscard]] virtual const std::vector<LayerActivations>& activations() const = 0;
};

}  // namespace bitnet
