#include "bitnet/core/error.h"
#include "inference/engine_impl.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// The sampler's next draw but `later`, if it is a chain of those that TokenDraw has.
std::optional<TokenDraw> draw_of(Sampler& sampler, int64_t later) {
  const SamplerOptions& options = sampler.options();
  const std::optional<TopQuery> query = sampler.query();
  if (!query || !query->always.empty() || options.typical_p < 1) return std::nullopt;
  const double min_p = options.min_p;
  return TokenDraw{.k = static_cast<int32_t>(query->k),
                   .temperature = options.temperature,
                   .top_p = options.top_p,
                   .log_min_p = min_p > 0 ? std::log(min_p) : -std::numeric_limits<double>::infinity(),
                   .number = sampler.uniform(later)};
}

/// Penalties make tokens of the text matter to the draw, those not yet sampled included.
bool penalizes(const SamplerOptions& options) {
  return options.penalty_window != 0 &&
         (options.repetition_penalty != 1 || options.frequency_penalty != 0 || options.presence_penalty != 0);
}

/// Whatever ends the loop, nothing stays queued.
struct DropAtEnd {
  DrawingSteps& steps;
  ~DropAtEnd() { steps.drop(); }
};

}  // namespace

bool Engine::Impl::decode_ahead(std::span<const Decode> decodes, std::span<int32_t> tokens,
                                const VisitTokens& visit) {
  DrawingSteps* const steps = runner->drawing_steps();
  if (steps == nullptr || std::ssize(decodes) > batch) return false;
  std::vector<RunnerRow> step_rows;
  std::vector<TokenDraw> draws(decodes.size());
  int64_t room = std::numeric_limits<int64_t>::max();
  for (size_t i = 0; i < decodes.size(); ++i) {
    const std::optional<TokenDraw> draw = draw_of(*decodes[i].sampler, 0);
    if (!draw || !steps->can_draw(*draw) || penalizes(decodes[i].sampler->options())) return false;
    const Sequence::Impl& sequence = *decodes[i].sequence->impl_;
    step_rows.push_back({tokens[i], sequence.position, sequence.cache.get()});
    room = std::min(room, sequence.context - sequence.position);
  }
  const DropAtEnd drop{*steps};
  std::vector<int32_t> drawn(decodes.size());
  int64_t queued = 0, done = 0;
  for (bool more = true;;) {
    for (; more && queued < room && queued - done < DrawingSteps::kMostQueued; ++queued) {
      for (size_t i = 0; i < decodes.size(); ++i) draws[i] = *draw_of(*decodes[i].sampler, queued - done);
      steps->queue(step_rows, draws, queued > 0);
      for (RunnerRow& row : step_rows) ++row.position;
    }
    if (done == queued) return true;
    if (done > 0) {
      for (size_t i = 0; i < decodes.size(); ++i) decodes[i].sampler->accept(tokens[i]);
    }
    steps->take(drawn);
    if (std::ranges::find(drawn, -1) != drawn.end()) return !more;
    ++done;
    for (size_t i = 0; i < decodes.size(); ++i) {
      ++decodes[i].sequence->impl_->position;
      if (draws[i].temperature != 0) decodes[i].sampler->skip_draw();
      tokens[i] = drawn[i];
    }
    if (!visit(tokens)) more = false;
  }
}

void Engine::decode(std::span<const Decode> decodes, const VisitTokens& visit) {
  std::vector<int32_t> tokens;
  for (const Decode& decode : decodes) tokens.push_back(decode.token);
  std::vector<Append> appends;
  for (size_t i = 0; i < decodes.size(); ++i) appends.push_back({decodes[i].sequence, {&tokens[i], 1}});
  for (;;) {
    impl_->check(appends);
    if (impl_->decode_ahead(decodes, tokens, visit)) return;
    std::vector<TopQuery> queries;
    for (const Decode& decode : decodes) {
      if (const auto query = decode.sampler->query()) queries.push_back(*query);
    }
    std::vector<int32_t> sampled(decodes.size());
    const auto sample = [&](size_t i, int64_t, auto logits) {
      sampled[i] = decodes[i].sampler->sample(logits);
    };
    if (queries.size() == decodes.size()) {
      append_top(appends, queries, Logits::kLast, sample);
    } else {
      append(appends, Logits::kLast, sample);
    }
    std::ranges::copy(sampled, tokens.begin());
    const bool full = std::ranges::any_of(decodes, [](const Decode& decode) {
      return decode.sequence->position() == decode.sequence->context();
    });
    if (!visit(tokens) || full) return;
    for (size_t i = 0; i < decodes.size(); ++i) decodes[i].sampler->accept(tokens[i]);
  }
}

}  // namespace bitnet
