#pragma once

#include "bitnet/core/device.h"
#include "bitnet/core/thread_pool.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace bitnet {

struct AccelerationMetrics;
class HybridMemoryPool;

/// How a back end is chosen among those that support a call.
enum class Strategy : uint8_t {
  kHighestPriority,  ///< cuda 100, blas 80, simd 60, scalar 40
  kBestPerformance,  ///< least estimated seconds
  kLowLatency,       ///< least estimated seconds, start-up included
  kHighThroughput,   ///< highest measured rate, whatever the size of this call
  kLowMemory,        ///< least workspace, then highest priority
  kCustom,           ///< highest in ExecutionContext::priorities; those not named come last
};

/// What to do about NaN, infinity and overflow in results of floating type.
enum class NumericsCheck : uint8_t {
  kNone,
  kReport,   ///< throw kNumerical where the result has a NaN or an infinity and no operand has
  kPromote,  ///< the same, but an f16 or bf16 operation is first repeated in f32, whose result is then f32
};

/// Where the same operands give the same bits again.
enum class Determinism : uint8_t {
  kThisMachine,   ///< here, whatever the threads: always so
  kEveryMachine,  ///< on every processor with the same C library: only back ends that fix the order of sums
                  ///< and round every step compute, which is the scalar one, and simd where IEEE 754 leaves
                  ///< no choice
};

/// How operations run. Plain data: copy, change, install with ContextScope.
struct ExecutionContext {
  /// Where operations run: operands elsewhere are copied there first (to_device). None: where operands lie.
  std::optional<Device> device;
  /// A cudaStream_t of that GPU: operations and transfers come after what was queued there before, and before
  /// what is queued there later. Null: only in order among themselves.
  void* stream = nullptr;
  ThreadPool* pool = nullptr;             ///< null: one pool of the process, as large as the machine allows
  int threads = 0;                        ///< 1: the calling thread alone; 0: the whole pool
  HybridMemoryPool* workspace = nullptr;  ///< of scratch memory; null: the host's pool
  uint64_t seed = 0;                      ///< of stochastic rounding
  Determinism determinism = Determinism::kThisMachine;
  bool strict = false;  ///< no other back end after a failure
  std::string backend;  ///< forced by name; empty: by strategy. Never replaced by another
  Strategy strategy = Strategy::kHighestPriority;
  std::map<std::string, int> priorities;  ///< of kCustom
  NumericsCheck check_numerics = NumericsCheck::kNone;
  AccelerationMetrics* metrics = nullptr;  ///< filled by each operation; null: nothing is measured

  /// The calling thread's context: the innermost ContextScope's, or defaults.
  [[nodiscard]] static const ExecutionContext& current();
  /// The pool that operations of this context use.
  [[nodiscard]] ThreadPool& thread_pool() const;
  /// The pool from which they take scratch memory.
  [[nodiscard]] HybridMemoryPool& scratch_pool() const;
};

/// Makes a context the calling thread's until the end of the scope. The context must live as long.
class ContextScope {
 public:
  explicit ContextScope(const ExecutionContext& context);
  ~ContextScope();
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  const ExecutionContext* previous_;
};

/// Operations that a second back end repeated after the first had failed, in this process.
[[nodiscard]] uint64_t fallback_count();

}  // namespace bitnet
