#include "bitnet/memory/trace.h"

#include <string>
#include <unordered_map>
#include <utility>

namespace bitnet {
namespace {

constexpr int64_t kFloat = 4;

/// Writes a trace: names blocks, and knows which are live.
class Writer {
 public:
  explicit Writer(uint64_t seed) : state_(seed * 2 + 1) {}

  uint32_t allocate(int64_t elements) {
    trace.events.push_back({next_, elements * kFloat});
    return next_++;
  }
  void free(uint32_t block) { trace.events.push_back({block, -1}); }
  void temporary(int64_t elements) { free(allocate(elements)); }

  /// In [low, high]; a linear congruential generator is random enough for sizes.
  int64_t random(int64_t low, int64_t high) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return low + static_cast<int64_t>((state_ >> 33) % static_cast<uint64_t>(high - low + 1));
  }

  AllocationTrace trace;

 private:
  uint32_t next_ = 0;
  uint64_t state_;
};

/// Weights, gradients, and Adam's moments of each matrix and norm of the model.
void allocate_model(Writer& writer, const TrainingTraceOptions& o) {
  const auto parameter = [&writer](int64_t elements) {
    for (int copy = 0; copy < 4; ++copy) writer.allocate(elements);
  };
  parameter(o.vocab * o.dim);
  for (int layer = 0; layer < o.layers; ++layer) {
    for (int matrix = 0; matrix < 4; ++matrix) parameter(o.dim * o.dim);
    for (int matrix = 0; matrix < 3; ++matrix) parameter(o.dim * o.hidden);
    parameter(o.dim);
    parameter(o.dim);
  }
}

/// One layer's forward pass; what its backward pass needs stays.
std::vector<uint32_t> forward_layer(Writer& writer, const TrainingTraceOptions& o, int64_t length) {
  const int64_t tokens = o.batch * length;
  std::vector<uint32_t> kept;
  const auto keep = [&](int64_t elements) { kept.push_back(writer.allocate(elements)); };
  keep(tokens * o.dim);  // normed input
  keep(tokens);          // its scales
  for (int qkv = 0; qkv < 3; ++qkv) {
    writer.temporary(tokens * o.dim / 4);  // quantized to int8
    keep(tokens * o.dim);
  }
  writer.temporary(tokens * o.dim);  // q transposed
  const uint32_t scores = writer.allocate(o.batch * o.heads * length * length);
  keep(o.batch * o.heads * length * length);  // softmax
  writer.free(scores);
  keep(tokens * o.dim);  // attention's output
  const uint32_t projected = writer.allocate(tokens * o.dim);
  keep(tokens * o.dim);  // residual
  writer.free(projected);
  keep(tokens * o.dim);     // normed
  keep(tokens * o.hidden);  // gate
  keep(tokens * o.hidden);  // up
  keep(tokens * o.hidden);  // activated
  writer.temporary(tokens * o.hidden / 4);
  keep(tokens * o.dim);  // down, residual
  for (int64_t small = writer.random(3, 12); small > 0; --small)
    keep(writer.random(1, 300));  // shapes, metadata
  return kept;
}

void backward_layer(Writer& writer, const TrainingTraceOptions& o, int64_t length,
                    const std::vector<uint32_t>& kept) {
  const int64_t tokens = o.batch * length;
  const uint32_t incoming = writer.allocate(tokens * o.dim);
  writer.temporary(o.dim * o.hidden);  // a weight's gradient before it is added
  const uint32_t hidden_gradient = writer.allocate(tokens * o.hidden);
  writer.temporary(tokens * o.hidden);
  writer.temporary(o.batch * o.heads * length * length);
  writer.temporary(o.dim * o.dim);
  for (size_t i = kept.size(); i-- > 0;) writer.free(kept[i]);
  writer.free(hidden_gradient);
  writer.free(incoming);
}

void train_step(Writer& writer, const TrainingTraceOptions& o, int64_t length) {
  const uint32_t embedded = writer.allocate(o.batch * length * o.dim);
  std::vector<std::vector<uint32_t>> layers;
  for (int layer = 0; layer < o.layers; ++layer) layers.push_back(forward_layer(writer, o, length));
  const uint32_t logits = writer.allocate(o.batch * length * o.vocab);
  const uint32_t gradient = writer.allocate(o.batch * length * o.vocab);
  writer.free(logits);
  writer.free(gradient);
  for (; !layers.empty(); layers.pop_back()) backward_layer(writer, o, length, layers.back());
  writer.free(embedded);
}

/// The live blocks of a replay; the rest goes back in any case.
class Player {
 public:
  explicit Player(HybridMemoryPool& pool) : pool_(pool) {}
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;
  ~Player() {
    for (const auto& [name, block] : live_) pool_.deallocate_raw(block.first, block.second);
  }

  void allocate(uint32_t name, size_t bytes) {
    const auto [slot, is_new] = live_.try_emplace(name, nullptr, 0);
    if (!is_new) fail(name, "allocates a block that is live");
    slot->second = {pool_.allocate_raw(bytes), bytes};
    bytes_ += static_cast<int64_t>(bytes);
  }
  void free(uint32_t name) {
    const auto found = live_.find(name);
    if (found == live_.end()) fail(name, "frees a block that is not live");
    pool_.deallocate_raw(found->second.first, found->second.second);
    bytes_ -= static_cast<int64_t>(found->second.second);
    live_.erase(found);
  }
  [[nodiscard]] int64_t live_bytes() const { return bytes_; }

 private:
  [[noreturn]] static void fail(uint32_t name, const char* what) {
    throw Error(ErrorCode::kInvalidArgument, "the trace " + std::string(what) + ": " + std::to_string(name));
  }
  HybridMemoryPool& pool_;
  std::unordered_map<uint32_t, std::pair<void*, size_t>> live_;
  int64_t bytes_ = 0;
};

}  // namespace

AllocationTrace training_trace(const TrainingTraceOptions& options) {
  if (options.layers < 1 || options.batch < 1 || options.min_length < 1 ||
      options.max_length < options.min_length || options.steps <= options.warm_up_steps ||
      options.warm_up_steps < 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "a training trace needs layers, batch and lengths of at least 1, min_length <= max_length, and more "
        "steps than warm-up steps");
  }
  Writer writer(options.seed);
  allocate_model(writer, options);
  for (int step = 0; step < options.steps; ++step) {
    if (step == options.warm_up_steps) writer.trace.warm_up_events = writer.trace.events.size();
    train_step(writer, options,
               step == 0 ? options.max_length : writer.random(options.min_length, options.max_length));
  }
  return std::move(writer.trace);
}

AllocationTrace trace_of(std::span<const TimelineEvent> timeline) {
  AllocationTrace trace;
  std::unordered_map<const void*, uint32_t> live;
  uint32_t next = 0;
  for (const TimelineEvent& event : timeline) {
    if (!event.freed) {
      live[event.address] = next;
      trace.events.push_back({next++, event.bytes});
    } else if (const auto found = live.find(event.address); found != live.end()) {
      trace.events.push_back({found->second, -1});
      live.erase(found);
    }
  }
  return trace;
}

double ReplayResult::held_over_live() const {
  return peak_live_bytes > 0 ? static_cast<double>(held_at_peak_bytes) / static_cast<double>(peak_live_bytes)
                             : 1;
}

ReplayResult replay(HybridMemoryPool& pool, const AllocationTrace& trace) {
  if (pool.tracking() == TrackingLevel::kOff) {
    throw Error(ErrorCode::kInvalidArgument,
                "a trace is replayed on a pool that counts, not on tracking level off");
  }
  Player player(pool);
  ReplayResult result;
  PoolStats warm;
  for (size_t i = 0; i < trace.events.size(); ++i) {
    if (i == trace.warm_up_events) warm = pool.stats();
    const auto [name, bytes] = trace.events[i];
    if (bytes < 0) {
      player.free(name);
      continue;
    }
    player.allocate(name, static_cast<size_t>(bytes));
    if (player.live_bytes() >= result.peak_live_bytes) {
      result.peak_live_bytes = player.live_bytes();
      result.held_at_peak_bytes = pool.stats().held_bytes;
    }
  }
  const PoolStats end = pool.stats();
  const auto allocations = static_cast<double>(end.allocations - warm.allocations);
  const auto asked = static_cast<double>(end.system_requests - warm.system_requests);
  result.success_after_warm_up = allocations > 0 ? 1 - asked / allocations : 1;
  return result;
}

}  // namespace bitnet
