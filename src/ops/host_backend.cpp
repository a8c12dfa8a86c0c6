#include "ops/host_backend.h"

#include "bitnet/tensor/create.h"
#include "ops/elementwise.h"
#include "ops/indexing.h"
#include "ops/reduction.h"
#include "ops/rows.h"

#include <atomic>
#include <chrono>
#include <limits>
#include <string>

namespace bitnet::ops {
namespace {

/// Operations whose result IEEE 754 or integer arithmetic prescribes to the bit, also when computed in f32
/// and rounded to f16 or bf16 afterwards (Figueroa 1995: double rounding is harmless with 2p + 2 bits).
bool is_prescribed(Op op) {
  switch (op) {
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
    case Op::kDiv:
    case Op::kEqual:
    case Op::kNotEqual:
    case Op::kLess:
    case Op::kLessEqual:
    case Op::kGreater:
    case Op::kGreaterEqual:
    case Op::kNeg:
    case Op::kAbs:
    case Op::kSquare:
    case Op::kSqrt:
    case Op::kRelu:
    case Op::kReluSquared:
      return true;
    default:
      return false;
  }
}

class HostBackend final : public Backend {
 public:
  HostBackend(std::string_view name, int priority, const KernelSet& kernels, bool fixed_order)
      : name_(name), priority_(priority), kernels_(kernels), fixed_order_(fixed_order) {}

  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] int priority() const override { return priority_; }

  [[nodiscard]] std::string_view supports(const OpCall& call) const override {
    bool found = false;
    switch (call.info->family) {
      case OpFamily::kElementwise:
        found = kernels_.loop(call.info->op, call.dtype) != nullptr;
        break;
      case OpFamily::kReduction:
        found = is_quantile(call.info->op) ? kernels_.quantiles
                                           : kernels_.reduce(call.info->op, call.dtype) != nullptr;
        break;
      case OpFamily::kRow:
        found = kernels_.row(call.info->op, call.dtype) != nullptr;
        break;
      case OpFamily::kIndexing:
        found = true;  // moves bytes
        break;
      case OpFamily::kContraction:
        found = kernels_.contraction(call.info->op, call.dtype) != nullptr;
        break;
    }
    return found ? std::string_view() : "no kernel for this type";
  }

  [[nodiscard]] double estimate(const OpCall& call) const override {
    return call.operations() / throughput();
  }

  [[nodiscard]] double throughput() const override {
    if (const double known = throughput_.load(std::memory_order_relaxed); known > 0) return known;
    const double measured = measure();
    throughput_.store(measured, std::memory_order_relaxed);
    return measured;
  }

  [[nodiscard]] bool same_everywhere(const OpCall& call) const override {
    return fixed_order_ || is_prescribed(call.info->op);
  }

  void run(OpCall& call) const override {
    const Op op = call.info->op;
    switch (call.info->family) {
      case OpFamily::kElementwise:
        return run_elementwise(call, kernels_.loop(op, call.dtype), kernels_.unit_strides);
      case OpFamily::kReduction:
        return is_quantile(op) ? run_quantile(call) : run_reduction(call, kernels_.reduce(op, call.dtype));
      case OpFamily::kRow:
        return run_rows(call, kernels_.row(op, call.dtype));
      case OpFamily::kIndexing:
        return run_embedding(call);
      case OpFamily::kContraction:
        return kernels_.contraction(op, call.dtype)(call);
    }
  }

 private:
  /// f32 additions per second, of operands in the first cache: the best of a few runs.
  [[nodiscard]] double measure() const {
    constexpr int64_t kCount = 4096;
    ExecutionContext context;
    context.threads = 1;
    OpCall call;
    call.info = &op_info(Op::kAdd);
    call.context = &context;
    call.input_count = 2;
    call.inputs[0] = full({kCount}, 1);
    call.inputs[1] = full({kCount}, 2);
    call.output = empty({kCount});
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 20; ++i) {
      const auto start = std::chrono::steady_clock::now();
      run(call);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return static_cast<double>(kCount) / best;
  }

  std::string_view name_;
  int priority_;
  const KernelSet& kernels_;
  bool fixed_order_;  ///< of sums, and every step rounded
  mutable std::atomic<double> throughput_{0};
};

}  // namespace

std::unique_ptr<const Backend> make_scalar_backend() {
  return std::make_unique<HostBackend>("scalar", 40, scalar_kernels(), true);
}

std::unique_ptr<const Backend> make_simd_backend() {
  return std::make_unique<HostBackend>("simd", 60, simd_kernels(), false);
}

}  // namespace bitnet::ops
