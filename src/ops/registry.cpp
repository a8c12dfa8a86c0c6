#include "bitnet/core/error.h"
#include "bitnet/ops/backend.h"
#include "ops/contraction/geometry.h"
#include "ops/host_backend.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <string>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// Grows only, so that readers need no lock: they see the first `count_`.
class Registry {
 public:
  Registry() {
    add(ops::make_blas_backend());
    add(ops::make_simd_backend());
    add(ops::make_scalar_backend());
  }
  void add(std::unique_ptr<const Backend> backend) {
    const std::lock_guard lock(mutex_);
    const size_t count = count_.load(std::memory_order_relaxed);
    for (size_t i = 0; i < count; ++i) {
      if (owned_[i]->name() == backend->name()) {
        throw Error(ErrorCode::kConfiguration,
                    fmt::format("a back end named {} is registered already", backend->name()));
      }
    }
    if (count == owned_.size()) {
      throw Error(ErrorCode::kConfiguration, fmt::format("{} back ends are all that fit", count));
    }
    owned_[count] = std::move(backend);
    count_.store(count + 1, std::memory_order_release);
  }
  BackendList all() const {
    BackendList result;
    const size_t count = count_.load(std::memory_order_acquire);
    for (size_t i = 0; i < count; ++i) result.push_back(owned_[i].get());
    return result;
  }

 private:
  std::mutex mutex_;
  std::atomic<size_t> count_{0};
  std::array<std::unique_ptr<const Backend>, BackendList::kCapacity> owned_;
};

Registry& registry() {
  static Registry instance;
  return instance;
}

int custom_priority(const ExecutionContext& context, const Backend& backend) {
  const auto found = context.priorities.find(std::string(backend.name()));
  return found == context.priorities.end() ? 0 : found->second;
}

/// Lower comes first.
double rank(const OpCall& call, const Backend& backend) {
  switch (call.context->strategy) {
    case Strategy::kHighestPriority:
      return -backend.priority();
    case Strategy::kBestPerformance:
      return backend.estimate(call);
    case Strategy::kLowLatency:
      return backend.estimate(call) + backend.startup_seconds();
    case Strategy::kHighThroughput:
      return -backend.throughput();
    case Strategy::kLowMemory:
      return static_cast<double>(backend.workspace_bytes(call));
    case Strategy::kCustom:
      return -custom_priority(*call.context, backend);
  }
  return 0;
}

[[noreturn]] void throw_none(const OpCall& call, const BackendList& all) {
  std::string reasons;
  const std::string& forced = call.context->backend;
  for (const Backend* backend : all) {
    if (!forced.empty() && backend->name() != forced) continue;
    const bool elsewhere = backend->device().type != call.output.device().type;
    std::string_view reason = elsewhere ? "another device" : backend->supports(call);
    if (reason.empty()) reason = "other bits on other machines";
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", backend->name(), reason);
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("no back end computes {} of {} on {} ({})", call.info->name, to_string(call.dtype),
                          to_string(call.output.device()), reasons));
}

bool computes(const Backend& backend, const OpCall& call) {
  const Device device = call.output.device();
  const bool reaches = is_host(device) ? is_host(backend.device()) : backend.device() == device;
  if (!reaches || !backend.supports(call).empty()) return false;
  return call.context->determinism == Determinism::kThisMachine || backend.same_everywhere(call);
}

}  // namespace

void register_backend(std::unique_ptr<const Backend> backend) {
  registry().add(std::move(backend));
}

BackendList backends() {
  return registry().all();
}

BackendList ranked_backends(const OpCall& call) {
  const BackendList all = backends();
  const std::string& forced = call.context->backend;
  if (!forced.empty() && std::none_of(all.begin(), all.end(), [&](auto* b) { return b->name() == forced; })) {
    throw Error(ErrorCode::kConfiguration, fmt::format("no back end is named {}", forced),
                "backends() lists those of this build");
  }
  BackendList able;
  std::array<double, BackendList::kCapacity> ranks{};
  for (const Backend* backend : all) {
    if ((!forced.empty() && backend->name() != forced) || !computes(*backend, call)) continue;
    const double own = rank(call, *backend);
    able.push_back(backend);
    size_t at = able.size() - 1;  // inserted in order; among equals the higher priority first
    for (; at > 0; --at) {
      const bool before =
          own < ranks[at - 1] || (own == ranks[at - 1] && backend->priority() > able[at - 1]->priority());
      if (!before) break;
      ranks[at] = ranks[at - 1];
      able.begin()[at] = able[at - 1];
    }
    ranks[at] = own;
    able.begin()[at] = backend;
  }
  if (able.empty()) throw_none(call, all);
  return able;
}

const Backend& best_backend(const OpCall& call) {
  if (call.context->strategy != Strategy::kHighestPriority || !call.context->backend.empty()) {
    return *ranked_backends(call).front();
  }
  const BackendList all = backends();
  const Backend* best = nullptr;
  for (const Backend* backend : all) {
    const bool before = best == nullptr || backend->priority() > best->priority();
    if (before && computes(*backend, call)) best = backend;
  }
  if (best == nullptr) throw_none(call, all);
  return *best;
}

int64_t OpCall::bytes() const {
  int64_t sum = output.nbytes();
  for (const Tensor& operand : operands()) sum += operand.defined() ? operand.nbytes() : 0;
  return sum;
}

double OpCall::operations() const {
  if (info->family == OpFamily::kContraction) return 2 * ops::multiply_adds(*this);
  const bool by_input = info->family == OpFamily::kReduction;
  return static_cast<double>(by_input ? inputs[0].numel() : output.numel());
}

}  // namespace bitnet
