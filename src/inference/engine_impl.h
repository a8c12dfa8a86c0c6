#pragma once

#include "bitnet/inference/engine.h"
#include "inference/model_impl.h"
#include "inference/runner.h"

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <vector>

namespace bitnet {

struct Sequence::Impl {
  std::shared_ptr<const Model> model;
  std::weak_ptr<const Runner> runner;  ///< whose cache it is
  int64_t context;
  std::unique_ptr<SequenceCache> cache;
  int64_t position = 0;
};

struct Engine::Impl {
  Impl(std::shared_ptr<const Model> shared, const SessionOptions& options);

  /// A token of the batch whose logits are wanted.
  struct Wanted {
    int64_t row;
    size_t append;
    int64_t token;
  };

  std::shared_ptr<const Model> model;
  int64_t context;
  std::shared_ptr<Runner> runner;
  int64_t batch;  ///< tokens that one run takes
  std::vector<RunnerRow> rows;
  std::vector<Sequence::Impl*> owners;  ///< of the rows
  std::vector<Wanted> wanted;
  std::vector<float> logits;
  std::array<std::vector<Candidate>, Runner::kMaxLogits> candidates;

  void check(std::span<const Append> appends) const;

  /// Drops what an earlier call left behind when it ended with an exception.
  void forget() {
    rows.clear();
    owners.clear();
    wanted.clear();
  }

  /// Computes the rows gathered so far; head(wanted, their rows) for as many at once as the runner takes.
  template <class ApplyHead>
  void flush(ApplyHead&& apply_head) {
    if (rows.empty()) return;
    runner->run(rows);
    for (size_t i = 0; i < rows.size(); ++i) owners[i]->position = rows[i].position + 1;
    const auto most = static_cast<size_t>(runner->logits_at_once());
    for (size_t done = 0; done < wanted.size(); done += most) {
      const auto part = std::span(wanted).subspan(done, std::min(wanted.size() - done, most));
      std::array<int64_t, Runner::kMaxLogits> indices{};
      for (size_t i = 0; i < part.size(); ++i) indices[i] = part[i].row;
      apply_head(part, std::span<const int64_t>(indices).first(part.size()));
    }
    forget();
  }

  template <class ApplyHead>
  void append(std::span<const Append> appends, Logits which, ApplyHead&& apply_head) {
    check(appends);
    forget();
    for (size_t i = 0; i < appends.size(); ++i) {
      Sequence::Impl& sequence = *appends[i].sequence->impl_;
      const std::span<const int32_t> ids = appends[i].ids;
      const int64_t start = sequence.position;
      for (int64_t token = 0; token < std::ssize(ids); ++token) {
        if (std::ssize(rows) == batch) flush(apply_head);
        if (which == Logits::kEvery || token + 1 == std::ssize(ids))
          wanted.push_back({std::ssize(rows), i, token});
        rows.push_back({ids[static_cast<size_t>(token)], start + token, sequence.cache.get()});
        owners.push_back(&sequence);
      }
    }
    flush(apply_head);
  }

  /// Decode's steps as long as they can be drawn where the model runs. True when they are at their end; false
  /// where the host must sample the step that appends `tokens`.
  [[nodiscard]] bool decode_ahead(std::span<const Decode> decodes, std::span<int32_t> tokens,
                                  const VisitTokens& visit);
};

}  // namespace bitnet
