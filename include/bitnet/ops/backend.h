#pragma once

#include "bitnet/ops/context.h"
#include "bitnet/ops/op_table.h"
#include "bitnet/tensor/tensor.h"

#include <array>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace bitnet {

/// What an operation needs beside its operands. Each uses the fields that its function in ops.h names.
struct OpParams {
  std::array<int, kMaxDims> axes{};  ///< of reductions, normalized, ascending
  int axis_count = 0;
  bool keepdims = false;
  double ddof = 0;       ///< of var and std
  double quantile = 0;   ///< in [0, 1]
  double eps = 0;        ///< of norms
  double theta = 10000;  ///< of rope
  int64_t position = 0;  ///< of rope: of the first row
  int64_t length = 1;    ///< of rope: rows until positions begin again
  bool interleaved = false, inverse = false;
  /// Of convolutions: height, width; one axis is the width.
  std::array<int64_t, 2> stride{1, 1}, padding{0, 0}, dilation{1, 1};
  int64_t groups = 1;
};

/// A call whose operands have been checked and converted, and whose result has been allocated.
struct OpCall {
  const OpInfo* info = nullptr;
  DType dtype = DType::kF32;  ///< that the operands have; where they differ, of the first that computes
  std::array<Tensor, 4> inputs;
  int input_count = 0;
  Tensor output;
  OpParams params;
  const ExecutionContext* context = nullptr;

  [[nodiscard]] std::span<const Tensor> operands() const {
    return {inputs.data(), static_cast<size_t>(input_count)};
  }
  /// Bytes of operands and result.
  [[nodiscard]] int64_t bytes() const;
  /// As AccelerationMetrics counts them.
  [[nodiscard]] double operations() const;
};

/// One way to compute operations. Stateless for its callers: const, and safe from several threads.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual Device device() const { return kCpuDevice; }
  [[nodiscard]] virtual int priority() const = 0;
  /// Empty if it can compute the call, otherwise why not.
  [[nodiscard]] virtual std::string_view supports(const OpCall& call) const = 0;
  /// Seconds that the call would take, from rates measured on this machine; start-up excluded.
  [[nodiscard]] virtual double estimate(const OpCall& call) const = 0;
  [[nodiscard]] virtual double startup_seconds() const { return 0; }
  /// Operations per second on large operands, measured.
  [[nodiscard]] virtual double throughput() const = 0;
  [[nodiscard]] virtual int64_t workspace_bytes(const OpCall&) const { return 0; }
  /// True if the bits of the result depend on the operands alone: Determinism::kEveryMachine.
  [[nodiscard]] virtual bool same_everywhere(const OpCall&) const { return false; }
  virtual void run(OpCall& call) const = 0;
};

/// A few back ends, held inline: choosing costs no allocation.
class BackendList {
 public:
  static constexpr size_t kCapacity = 16;
  void push_back(const Backend* backend) { entries_[size_++] = backend; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] const Backend* operator[](size_t i) const { return entries_[i]; }
  [[nodiscard]] const Backend* front() const { return entries_[0]; }
  [[nodiscard]] const Backend** begin() { return entries_.data(); }
  [[nodiscard]] const Backend** end() { return entries_.data() + size_; }
  [[nodiscard]] const Backend* const* begin() const { return entries_.data(); }
  [[nodiscard]] const Backend* const* end() const { return entries_.data() + size_; }

 private:
  std::array<const Backend*, kCapacity> entries_{};
  size_t size_ = 0;
};

/// Adds a back end for the rest of the process. Throws kConfiguration if the name is taken or the list full.
/// Thread-safe.
void register_backend(std::unique_ptr<const Backend> backend);
/// All of them, in order of registration. The pointers stay valid.
[[nodiscard]] BackendList backends();
/// Those that can compute the call, best first by the context's strategy; one if the context forces it.
/// Throws kUnsupported, with each back end's reason, if there is none; kConfiguration for an unknown name.
[[nodiscard]] BackendList ranked_backends(const OpCall& call);
/// The first of them, found without ranking the others.
[[nodiscard]] const Backend& best_backend(const OpCall& call);

}  // namespace bitnet
