#include "bitnet/inference/session.h"

#include "bitnet/core/error.h"
#include "bitnet/core/thread_pool.h"
#include "inference/forward.h"
#include "inference/kv_cache.h"
#include "inference/model_impl.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

// Tokens whose logits are computed together: the head's rows are decoded once for all of them, and
// 16 x 128256 floats are 8 MB.
constexpr int64_t kLogitsBlock = 16;

int64_t context_of(const ModelConfig& config, const SessionOptions& options) {
  if (options.context < 0 || options.context > config.max_position) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a context of {} tokens; the model was made for at most {}", options.context,
                            config.max_position),
                "use 0 for the model's own");
  }
  return options.context == 0 ? config.max_position : options.context;
}

int64_t batch_of(const SessionOptions& options, int64_t context) {
  if (options.batch < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a batch of {} tokens; at least 1 is needed", options.batch));
  }
  return std::min(options.batch, context);
}

}  // namespace

struct Session::Impl {
  Impl(std::shared_ptr<const Model> shared, const SessionOptions& options)
      : model(std::move(shared)),
        table(kernels::select_kernels(options.isa)),
        pool(options.threads),
        context(context_of(model->config(), options)),
        batch(batch_of(options, context)),
        cache(model->config(), context, options.kv_type),
        forward(model->impl(), table, pool, batch, context) {}

  std::shared_ptr<const Model> model;
  const kernels::KernelTable& table;
  ThreadPool pool;
  int64_t context, batch;
  int64_t position = 0;
  KvCache cache;
  Forward forward;
  std::vector<float> logits;

  void check(std::span<const int32_t> ids) const {
    if (ids.empty()) throw Error(ErrorCode::kInvalidArgument, "no tokens to append");
    const int64_t vocab = model->config().vocab_size;
    for (const int32_t id : ids) {
      if (id >= 0 && id < vocab) continue;
      throw Error(ErrorCode::kOutOfRange,
                  fmt::format("token id {} is outside the vocabulary [0, {})", id, vocab),
                  "the ids belong to another model's tokenizer");
    }
    const auto count = static_cast<int64_t>(ids.size());
    if (count > context - position) {
      throw Error(
          ErrorCode::kOutOfRange,
          fmt::format("{} tokens do not fit: {} of {} positions of the context are in use", count, position,
                      context),
          "shorten the prompt, ask for a larger context if the model allows it, or use --context-shift");
    }
  }

  /// Runs the tokens batch by batch; after_batch(index of the batch's first token, its size).
  template <class AfterBatch>
  void run(std::span<const int32_t> ids, AfterBatch&& after_batch) {
    check(ids);
    for (size_t first = 0; first < ids.size();) {
      const size_t count = std::min(ids.size() - first, static_cast<size_t>(batch));
      forward.run(ids.subspan(first, count), position, cache);
      position += static_cast<int64_t>(count);
      after_batch(static_cast<int64_t>(first), static_cast<int64_t>(count));
      first += count;
    }
  }
};

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options) {
  if (model == nullptr) throw Error(ErrorCode::kInvalidArgument, "a session needs a model");
  impl_ = std::make_unique<Impl>(std::move(model), options);
}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

const Model& Session::model() const {
  return *impl_->model;
}
std::string_view Session::isa() const {
  return impl_->table.name;
}
int Session::threads() const {
  return impl_->pool.size();
}
int64_t Session::context() const {
  return impl_->context;
}
int64_t Session::position() const {
  return impl_->position;
}
int64_t Session::kv_bytes() const {
  return impl_->cache.bytes();
}

std::span<const float> Session::append(std::span<const int32_t> ids) {
  int64_t last_count = 0;
  impl_->run(ids, [&](int64_t, int64_t count) { last_count = count; });
  impl_->logits.resize(static_cast<size_t>(model().config().vocab_size));
  impl_->forward.logits(last_count - 1, 1, impl_->logits);
  return impl_->logits;
}

void Session::append_each(std::span<const int32_t> ids,
                          const std::function<void(int64_t index, std::span<const float> logits)>& visit) {
  const auto vocab = static_cast<size_t>(model().config().vocab_size);
  std::vector<float> block;
  impl_->run(ids, [&](int64_t first, int64_t count) {
    for (int64_t done = 0; done < count; done += kLogitsBlock) {
      const int64_t part = std::min(kLogitsBlock, count - done);
      block.resize(static_cast<size_t>(part) * vocab);
      impl_->forward.logits(done, part, block);
      for (int64_t i = 0; i < part; ++i) {
        visit(first + done + i, std::span(block).subspan(static_cast<size_t>(i) * vocab, vocab));
      }
    }
  });
}

std::vector<float> Session::append_all_logits(std::span<const int32_t> ids) {
  std::vector<float> all;
  all.reserve(ids.size() * static_cast<size_t>(model().config().vocab_size));
  append_each(ids, [&](int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
  return all;
}

void Session::truncate(int64_t position) {
  if (position < 0 || position > impl_->position) {
    throw Error(
        ErrorCode::kOutOfRange,
        fmt::format("cannot truncate to position {}: the cache holds {} tokens", position, impl_->position));
  }
  impl_->position = position;
}

void Session::shift(int64_t keep, int64_t count) {
  if (keep < 0 || count < 0 || keep > impl_->position || count > impl_->position - keep) {
    throw Error(ErrorCode::kOutOfRange,
                fmt::format("cannot drop {} tokens behind the first {}: the cache holds {}", count, keep,
                            impl_->position));
  }
  if (count == 0) return;
  impl_->cache.shift(impl_->table, keep + count, impl_->position, count, impl_->model->impl().inv_freq);
  impl_->position -= count;
}

}  // namespace bitnet
