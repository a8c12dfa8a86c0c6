#include "inference/lookahead.h"

#include <algorithm>
#include <utility>

namespace bitnet {

Lookahead::Lookahead(Session& session, Sampler& sampler, PromptLookup lookup)
    : session_(session), sampler_(sampler), lookup_(std::move(lookup)) {}

void Lookahead::recall(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    sampler_.accept(id);
    lookup_.push(id);
  }
}

void Lookahead::append_prompt(std::span<const int32_t> ids) {
  recall(ids);
  compute(ids, 1);
}

/// Appends ids and keeps what the sampler needs after each of the last `results` of them.
void Lookahead::compute(std::span<const int32_t> ids, size_t results) {
  const std::optional<TopQuery> query = sampler_.query();
  all_logits_ = !query;
  candidates_.resize(std::max(candidates_.size(), results));
  logits_.resize(candidates_.size());
  const auto keep = [](auto& kept, auto values) { kept.assign(values.begin(), values.end()); };
  if (query) {
    // Penalties will act on the guessed tokens, too.
    std::vector<int32_t> always(query->always.begin(), query->always.end());
    always.insert(always.end(), draft_.begin(), draft_.end());
    const TopQuery wanted{query->k, always};
    if (results == 1) return keep(candidates_[0], session_.append_top(ids, wanted));
    session_.append_top_each(ids, wanted, [&](int64_t i, std::span<const Candidate> found) {
      keep(candidates_[static_cast<size_t>(i)], found);
    });
  } else {
    if (results == 1) return keep(logits_[0], session_.append(ids));
    session_.append_each(
        ids, [&](int64_t i, std::span<const float> found) { keep(logits_[static_cast<size_t>(i)], found); });
  }
}

int32_t Lookahead::sample() {
  if (all_logits_) return sampler_.sample(std::span<const float>(logits_[used_]));
  return sampler_.sample(std::span<const Candidate>(candidates_[used_]));
}

bool Lookahead::follow(int32_t token) {
  sampler_.accept(token);
  lookup_.push(token);
  if (used_ < draft_.size() && draft_[used_] == token) {
    ++used_;
    ++accepted_;
    return true;
  }
  finish();
  return false;
}

void Lookahead::append(int32_t token, int64_t most) {
  most = std::min(most, session_.context() - session_.position() - 1);
  draft_ = lookup_.guess(most);
  used_ = 0;
  drafted_ += std::ssize(draft_);
  std::vector<int32_t> ids{token};
  ids.insert(ids.end(), draft_.begin(), draft_.end());
  compute(ids, ids.size());
}

void Lookahead::finish() {
  lookup_.report(std::ssize(draft_), static_cast<int64_t>(used_));
  session_.truncate(session_.position() - (std::ssize(draft_) - static_cast<int64_t>(used_)));
  draft_.clear();
  used_ = 0;
}

}  // namespace bitnet
