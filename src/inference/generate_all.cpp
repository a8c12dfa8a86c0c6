#include "bitnet/core/error.h"
#include "bitnet/inference/engine.h"
#include "inference/transcript.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// One of the texts in progress.
struct Slot {
  Slot(Engine& engine, const GenerateOptions& options, int64_t prompt_index, std::vector<int32_t> prompt)
      : sequence(engine.sequence()),
        sampler(options.sampler, engine.model().config().vocab_size),
        transcript(engine.model(), options, {}),
        index(prompt_index),
        pending(std::move(prompt)) {
    transcript.begin(pending);
    for (const int32_t id : pending) sampler.accept(id);
  }

  Sequence sequence;
  Sampler sampler;
  Transcript transcript;
  int64_t index;
  std::vector<int32_t> pending;  ///< to append next: the prompt, then a token at a time
  int32_t token = 0;             ///< sampled after that
  bool begun = false;            ///< the prompt is in the sequence
  std::optional<StopReason> reason;
};

bool is_set(const std::atomic<bool>* flag) {
  return flag != nullptr && flag->load(std::memory_order_relaxed);
}

class ParallelGeneration {
 public:
  ParallelGeneration(Engine& engine, const GenerateOptions& options, const PromptSource& prompts,
                     const OnResult& on_result)
      : engine_(engine), options_(options), prompts_(prompts), on_result_(on_result) {}

  void run(int64_t parallel, const std::atomic<bool>* cancel) {
    for (;;) {
      fill(static_cast<size_t>(parallel));
      if (slots_.empty()) return;
      if (is_set(cancel)) return;
      if (std::ranges::all_of(slots_, [](const auto& slot) { return slot->begun; })) {
        decode(cancel);
      } else {
        step();
      }
      std::erase_if(slots_, [&](const std::unique_ptr<Slot>& slot) { return ends(*slot); });
    }
  }

 private:
  void fill(size_t parallel) {
    while (!exhausted_ && slots_.size() < parallel) {
      std::optional<std::vector<int32_t>> prompt = prompts_();
      if (!prompt) {
        exhausted_ = true;
        return;
      }
      slots_.push_back(std::make_unique<Slot>(engine_, options_, prompt_count_++, std::move(*prompt)));
    }
  }

  /// Appends what is pending everywhere, and samples everywhere.
  void step() {
    std::vector<Engine::Append> appends;
    std::vector<TopQuery> queries;
    for (const auto& slot : slots_) {
      appends.push_back({&slot->sequence, slot->pending});
      // The same options everywhere: all have a query, or none.
      if (const auto query = slot->sampler.query()) queries.push_back(*query);
    }
    const auto sample = [&](size_t i, int64_t, auto logits) {
      slots_[i]->token = slots_[i]->sampler.sample(logits);
    };
    if (queries.size() == slots_.size()) {
      engine_.append_top(appends, queries, Engine::Logits::kLast, sample);
    } else {
      engine_.append(appends, Engine::Logits::kLast, sample);
    }
    for (const auto& slot : slots_) (void)take(*slot, slot->token);
  }

  /// Goes on with all sequences until a text ends or a context is full.
  void decode(const std::atomic<bool>* cancel) {
    std::vector<Engine::Decode> decodes;
    for (const auto& slot : slots_) decodes.push_back({&slot->sequence, &slot->sampler, slot->token});
    engine_.decode(decodes, [&](std::span<const int32_t> tokens) {
      bool all_go_on = true;
      for (size_t i = 0; i < slots_.size(); ++i) all_go_on = take(*slots_[i], tokens[i]) && all_go_on;
      return all_go_on && !is_set(cancel);
    });
  }

  /// Takes a sampled token; false where the text has ended with it or before.
  static bool take(Slot& slot, int32_t token) {
    if (slot.reason) return false;
    slot.token = token;
    if (slot.transcript.tokens_left() == 0) {
      slot.reason = StopReason::kMaxTokens;  // none was wanted
    } else {
      slot.reason = slot.transcript.take(token);
    }
    return !slot.reason;
  }

  /// Hands over the result of a text that has ended; has others go on with the token taken last.
  bool ends(Slot& slot) {
    if (!slot.reason && !make_room(slot.sequence, options_)) slot.reason = StopReason::kContext;
    if (slot.reason) {
      on_result_(slot.index, slot.transcript.finish(*slot.reason));
      return true;
    }
    slot.sampler.accept(slot.token);
    slot.pending.assign(1, slot.token);
    slot.begun = true;
    return false;
  }

  Engine& engine_;
  const GenerateOptions& options_;
  const PromptSource& prompts_;
  const OnResult& on_result_;
  std::vector<std::unique_ptr<Slot>> slots_;
  int64_t prompt_count_ = 0;
  bool exhausted_ = false;
};

}  // namespace

void generate_all(Engine& engine, const GenerateOptions& options, int64_t parallel,
                  const PromptSource& prompts, const OnResult& on_result, const std::atomic<bool>* cancel) {
  if (parallel < 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} texts at once; at least 1 is needed", parallel));
  }
  ParallelGeneration(engine, options, prompts, on_result).run(parallel, cancel);
}

}  // namespace bitnet
