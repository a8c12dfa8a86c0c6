#pragma once

#include "bitnet/memory/pool.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// One step of a recorded life of blocks.
struct TraceEvent {
  uint32_t block = 0;  ///< names the block; may be used again after it was freed
  int64_t bytes = 0;   ///< of an allocation; -1: the block is freed
};

struct AllocationTrace {
  std::vector<TraceEvent> events;
  size_t warm_up_events = 0;  ///< from here on the pool's success counts
};

/// What a training run of a decoder allocates. f32; sizes in elements.
struct TrainingTraceOptions {
  int layers = 8;
  int64_t dim = 512, hidden = 1408, heads = 8, vocab = 16000;
  int64_t batch = 4;
  /// The first step has the longest sequences, as one warms up; each other a random length in this range.
  int64_t min_length = 256, max_length = 256;
  int steps = 12, warm_up_steps = 4;
  uint64_t seed = 1;
};

/// Weights, gradients and two optimizer moments stay; each step allocates the activations of its forward pass
/// with their temporaries, frees them backwards beside the gradients' temporaries, and scatters small blocks
/// (shapes, norms, metadata) in between. Deterministic.
[[nodiscard]] AllocationTrace training_trace(const TrainingTraceOptions& options = {});

/// What a pool has recorded (HybridMemoryPool::timeline), to be played again; frees of blocks from before are
/// left out.
[[nodiscard]] AllocationTrace trace_of(std::span<const TimelineEvent> timeline);

struct ReplayResult {
  double success_after_warm_up = 0;  ///< share of allocations served without asking the system
  int64_t peak_live_bytes = 0;       ///< as asked for
  int64_t held_at_peak_bytes = 0;    ///< PoolStats::held_bytes at that moment
  [[nodiscard]] double held_over_live() const;
};

/// Plays a trace on the pool (level kStandard or higher, else kInvalidArgument) without touching the blocks.
/// Throws kInvalidArgument for a trace that frees what it has not allocated. All blocks are freed at the end.
ReplayResult replay(HybridMemoryPool& pool, const AllocationTrace& trace);

}  // namespace bitnet
