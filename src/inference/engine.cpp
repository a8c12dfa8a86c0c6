#include "bitnet/inference/engine.h"

#include "bitnet/core/error.h"
#include "inference/device.h"
#include "inference/model_impl.h"
#include "inference/runner.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace {

int64_t context_of(const ModelConfig& config, const SessionOptions& options) {
  if (options.context < 0 || options.context > config.max_position) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a context of {} tokens; the model was made for at most {}", options.context,
                            config.max_position),
                "use 0 for the model's own");
  }
  return options.context == 0 ? config.max_position : options.context;
}

int64_t batch_of(const SessionOptions& options) {
  if (options.batch < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a batch of {} tokens; at least 1 is needed", options.batch));
  }
  return options.batch;
}

void check_ids(std::span<const int32_t> ids, int64_t vocab) {
  if (ids.empty()) throw Error(ErrorCode::kInvalidArgument, "no tokens to append");
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab) continue;
    throw Error(ErrorCode::kOutOfRange,
                fmt::format("token id {} is outside the vocabulary [0, {})", id, vocab),
                "the ids belong to another model's tokenizer");
  }
}

void check_queries(size_t appends, std::span<const TopQuery> queries, int64_t vocab) {
  if (queries.size() != appends)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} queries for {} sequences", queries.size(), appends));
  for (const TopQuery& query : queries) {
    if (query.k < 1)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the {} highest logits; ask for at least 1", query.k));
    for (const int32_t id : query.always) {
      if (id >= 0 && id < vocab) continue;
      throw Error(ErrorCode::kOutOfRange,
                  fmt::format("a query for token id {} outside the vocabulary [0, {})", id, vocab));
    }
  }
}

}  // namespace

struct Sequence::Impl {
  std::shared_ptr<const Model> model;
  std::weak_ptr<const Runner> runner;  ///< whose cache it is
  int64_t context;
  std::unique_ptr<SequenceCache> cache;
  int64_t position = 0;
};

Sequence::Sequence(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

int64_t Sequence::context() const {
  return impl_->context;
}
int64_t Sequence::position() const {
  return impl_->position;
}
int64_t Sequence::kv_bytes() const {
  return impl_->cache->bytes();
}

void Sequence::truncate(int64_t position) {
  if (position < 0 || position > impl_->position) {
    throw Error(
        ErrorCode::kOutOfRange,
        fmt::format("cannot truncate to position {}: the cache holds {} tokens", position, impl_->position));
  }
  impl_->position = position;
}

void Sequence::shift(int64_t keep, int64_t count) {
  if (keep < 0 || count < 0 || keep > impl_->position || count > impl_->position - keep) {
    throw Error(ErrorCode::kOutOfRange,
                fmt::format("cannot drop {} tokens behind the first {}: the cache holds {}", count, keep,
                            impl_->position));
  }
  if (count == 0) return;
  impl_->cache->shift(keep + count, impl_->position, count);
  impl_->position -= count;
}

void Sequence::save(const std::filesystem::path& path, std::span<const int32_t> tokens) const {
  if (std::ssize(tokens) > impl_->position) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("cannot save {} tokens: the cache holds {}", tokens.size(), impl_->position));
  }
  impl_->cache->save(path, tokens);
}

std::vector<int32_t> Sequence::load(const std::filesystem::path& path) {
  std::vector<int32_t> tokens = impl_->cache->load(path);
  impl_->position = std::ssize(tokens);
  return tokens;
}

struct Engine::Impl {
  Impl(std::shared_ptr<const Model> shared, const SessionOptions& options)
      : model(std::move(shared)),
        context(context_of(model->config(), options)),
        batch(batch_of(options)),
        runner(make_runner(model->impl(), options, context)) {}

  /// A token of the batch whose logits are wanted.
  struct Wanted {
    int64_t row;
    size_t append;
    int64_t token;
  };

  std::shared_ptr<const Model> model;
  int64_t context;
  int64_t batch;
  std::shared_ptr<Runner> runner;
  std::vector<RunnerRow> rows;
  std::vector<Sequence::Impl*> owners;  ///< of the rows
  std::vector<Wanted> wanted;
  std::vector<float> logits;
  std::array<std::vector<Candidate>, Runner::kMaxLogits> candidates;

  void check(std::span<const Append> appends) const {
    for (size_t i = 0; i < appends.size(); ++i) {
      const Sequence::Impl& sequence = *appends[i].sequence->impl_;
      if (sequence.model != model)
        throw Error(ErrorCode::kInvalidArgument, "the sequence belongs to another model");
      if (sequence.runner.lock() != runner)
        throw Error(ErrorCode::kInvalidArgument, "the sequence belongs to another engine");
      for (size_t j = 0; j < i; ++j) {
        if (appends[j].sequence == appends[i].sequence)
          throw Error(ErrorCode::kInvalidArgument, "a sequence stands twice in one call",
                      "append its tokens as one");
      }
      check_ids(appends[i].ids, model->config().vocab_size);
      const int64_t count = std::ssize(appends[i].ids);
      if (count <= sequence.context - sequence.position) continue;
      throw Error(
          ErrorCode::kOutOfRange,
          fmt::format("{} tokens do not fit: {} of {} positions of the context are in use", count,
                      sequence.position, sequence.context),
          "shorten the prompt, ask for a larger context if the model allows it, or use --context-shift");
    }
  }

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
};

Engine::Engine(std::shared_ptr<const Model> model, const SessionOptions& options) {
  if (model == nullptr) throw Error(ErrorCode::kInvalidArgument, "an engine needs a model");
  impl_ = std::make_unique<Impl>(std::move(model), options);
}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

const Model& Engine::model() const {
  return *impl_->model;
}
std::string_view Engine::isa() const {
  return impl_->runner->kernels();
}
int Engine::threads() const {
  return impl_->runner->threads();
}

const std::vector<LayerActivations>& Engine::activations() const {
  return impl_->runner->activations();
}

Sequence Engine::sequence() const {
  return Sequence(std::make_unique<Sequence::Impl>(Sequence::Impl{.model = impl_->model,
                                                                  .runner = impl_->runner,
                                                                  .context = impl_->context,
                                                                  .cache = impl_->runner->make_cache()}));
}

void Engine::append(std::span<const Append> appends, Logits which, const Visit& visit) {
  const auto vocab = static_cast<size_t>(model().config().vocab_size);
  std::vector<float>& logits = impl_->logits;
  impl_->append(appends, which, [&](std::span<const Impl::Wanted> wanted, std::span<const int64_t> rows) {
    logits.resize(std::max(logits.size(), wanted.size() * vocab));
    impl_->runner->logits(rows, std::span(logits).first(wanted.size() * vocab));
    for (size_t i = 0; i < wanted.size(); ++i)
      visit(wanted[i].append, wanted[i].token, std::span(logits).subspan(i * vocab, vocab));
  });
}

void Engine::append_top(std::span<const Append> appends, std::span<const TopQuery> queries, Logits which,
                        const VisitTop& visit) {
  check_queries(appends.size(), queries, model().config().vocab_size);
  std::vector<TopQuery> wanted_queries;
  impl_->append(appends, which, [&](std::span<const Impl::Wanted> wanted, std::span<const int64_t> rows) {
    wanted_queries.clear();
    for (const Impl::Wanted& token : wanted) wanted_queries.push_back(queries[token.append]);
    const auto candidates = std::span(impl_->candidates).first(wanted.size());
    impl_->runner->top(rows, wanted_queries, candidates);
    for (size_t i = 0; i < wanted.size(); ++i) visit(wanted[i].append, wanted[i].token, candidates[i]);
  });
}

}  // namespace bitnet
