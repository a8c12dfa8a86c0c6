#include "bitnet/core/error.h"
#include "bitnet/ops/backend.h"
#include "ops/contraction/geometry.h"
#include "ops/host_backend.h"

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <string>

#include <fmt/format.h>

namespace bitnet {
namespace {

class Registry {
 public:
  Registry() {
    owned_.push_back(ops::make_blas_backend());
    owned_.push_back(ops::make_simd_backend());
    owned_.push_back(ops::make_scalar_backend());
  }
  void add(std::unique_ptr<const Backend> backend) {
    const std::unique_lock lock(mutex_);
    for (const auto& other : owned_) {
      if (other->name() == backend->name()) {
        throw Error(ErrorCode::kConfiguration,
                    fmt::format("a back end named {} is registered already", backend->name()));
      }
    }
    owned_.push_back(std::move(backend));
  }
  std::vector<const Backend*> all() const {
    const std::shared_lock lock(mutex_);
    std::vector<const Backend*> result;
    result.reserve(owned_.size());
    for (const auto& backend : owned_) result.push_back(backend.get());
    return result;
  }

 private:
  mutable std::shared_mutex mutex_;
  std::vector<std::unique_ptr<const Backend>> owned_;
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

[[noreturn]] void throw_none(const OpCall& call, const std::vector<const Backend*>& all) {
  std::string reasons;
  for (const Backend* backend : all) {
    const bool elsewhere = backend->device().type != call.output.device().type;
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", backend->name(),
                           elsewhere ? "another device" : backend->supports(call));
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("no back end computes {} of {} on {} ({})", call.info->name, to_string(call.dtype),
                          to_string(call.output.device()), reasons));
}

bool computes(const Backend& backend, const OpCall& call) {
  const Device device = call.output.device();
  const bool reaches = is_host(device) ? is_host(backend.device()) : backend.device() == device;
  return reaches && backend.supports(call).empty();
}

}  // namespace

void register_backend(std::unique_ptr<const Backend> backend) {
  registry().add(std::move(backend));
}

std::vector<const Backend*> backends() {
  return registry().all();
}

std::vector<const Backend*> ranked_backends(const OpCall& call) {
  const std::vector<const Backend*> all = backends();
  std::vector<const Backend*> able;
  const std::string& forced = call.context->backend;
  const bool known =
      std::any_of(all.begin(), all.end(), [&](const Backend* b) { return b->name() == forced; });
  if (!forced.empty() && !known) {
    throw Error(ErrorCode::kConfiguration, fmt::format("no back end is named {}", forced),
                "backends() lists those of this build");
  }
  for (const Backend* backend : all) {
    if (!forced.empty() && backend->name() != forced) continue;
    if (computes(*backend, call)) able.push_back(backend);
  }
  if (able.empty()) throw_none(call, all);
  if (able.size() == 1) return able;
  std::vector<std::pair<double, const Backend*>> ranks;
  ranks.reserve(able.size());
  for (const Backend* backend : able) ranks.emplace_back(rank(call, *backend), backend);
  std::stable_sort(ranks.begin(), ranks.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second->priority() > b.second->priority();
  });
  std::transform(ranks.begin(), ranks.end(), able.begin(), [](const auto& entry) { return entry.second; });
  return able;
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
