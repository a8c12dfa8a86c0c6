#include "bitnet/core/error.h"
#include "inference/device.h"
#include "inference/engine_impl.h"

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

const SessionOptions& checked(const SessionOptions& options) {
  if (options.batch < 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a batch of {} tokens", options.batch),
                "use 0 for the device's own");
  }
  return options;
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

Engine::Impl::Impl(std::shared_ptr<const Model> shared, const SessionOptions& options)
    : model(std::move(shared)),
      context(context_of(model->config(), options)),
      runner(make_runner(model->impl(), checked(options), context)),
      batch(runner->batch()) {}

void Engine::Impl::check(std::span<const Append> appends) const {
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
int64_t Engine::batch() const {
  return impl_->batch;
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
