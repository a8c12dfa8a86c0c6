#include "bitnet/inference/session.h"

#include "bitnet/core/error.h"
#include "bitnet/inference/engine.h"

#include <array>
#include <utility>

namespace bitnet {

struct Session::Impl {
  Impl(std::shared_ptr<const Model> model, const SessionOptions& options)
      : engine(std::move(model), options), sequence(engine.sequence()) {}

  void append(std::span<const int32_t> ids, Engine::Logits which,
              const std::function<void(int64_t token, std::span<const float> logits)>& visit) {
    engine.append(std::array{Engine::Append{&sequence, ids}}, which,
                  [&](size_t, int64_t token, std::span<const float> row) { visit(token, row); });
  }

  void append_top(std::span<const int32_t> ids, const TopQuery& query, Engine::Logits which,
                  const std::function<void(int64_t token, std::span<const Candidate> candidates)>& visit) {
    engine.append_top(std::array{Engine::Append{&sequence, ids}}, {&query, 1}, which,
                      [&](size_t, int64_t token, std::span<const Candidate> found) { visit(token, found); });
  }

  Engine engine;
  Sequence sequence;
  std::vector<float> logits;
  std::vector<Candidate> candidates;
};

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options) {
  if (model == nullptr) throw Error(ErrorCode::kInvalidArgument, "a session needs a model");
  impl_ = std::make_unique<Impl>(std::move(model), options);
}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

const Model& Session::model() const {
  return impl_->engine.model();
}
std::string_view Session::isa() const {
  return impl_->engine.isa();
}
int Session::threads() const {
  return impl_->engine.threads();
}
int64_t Session::context() const {
  return impl_->sequence.context();
}
int64_t Session::position() const {
  return impl_->sequence.position();
}
int64_t Session::kv_bytes() const {
  return impl_->sequence.kv_bytes();
}

const std::vector<LayerActivations>& Session::activations() const {
  return impl_->engine.activations();
}

std::span<const float> Session::append(std::span<const int32_t> ids) {
  impl_->append(ids, Engine::Logits::kLast, [&](int64_t, std::span<const float> logits) {
    impl_->logits.assign(logits.begin(), logits.end());
  });
  return impl_->logits;
}

void Session::append_each(std::span<const int32_t> ids,
                          const std::function<void(int64_t index, std::span<const float> logits)>& visit) {
  impl_->append(ids, Engine::Logits::kEvery, visit);
}

std::vector<float> Session::append_all_logits(std::span<const int32_t> ids) {
  std::vector<float> all;
  all.reserve(ids.size() * static_cast<size_t>(model().config().vocab_size));
  append_each(ids, [&](int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
  return all;
}

std::span<const Candidate> Session::append_top(std::span<const int32_t> ids, const TopQuery& query) {
  impl_->append_top(ids, query, Engine::Logits::kLast, [&](int64_t, std::span<const Candidate> candidates) {
    impl_->candidates.assign(candidates.begin(), candidates.end());
  });
  return impl_->candidates;
}

void Session::append_top_each(
    std::span<const int32_t> ids, const TopQuery& query,
    const std::function<void(int64_t index, std::span<const Candidate> candidates)>& visit) {
  impl_->append_top(ids, query, Engine::Logits::kEvery, visit);
}

void Session::decode(Sampler& sampler, int32_t token, const std::function<bool(int32_t token)>& visit) {
  impl_->engine.decode(std::array{Engine::Decode{&impl_->sequence, &sampler, token}},
                       [&](std::span<const int32_t> tokens) { return visit(tokens.front()); });
}

void Session::truncate(int64_t position) {
  impl_->sequence.truncate(position);
}

void Session::shift(int64_t keep, int64_t count) {
  impl_->sequence.shift(keep, count);
}

void Session::save(const std::filesystem::path& path, std::span<const int32_t> tokens) const {
  impl_->sequence.save(path, tokens);
}

std::vector<int32_t> Session::load(const std::filesystem::path& path) {
  return impl_->sequence.load(path);
}

}  // namespace bitnet
