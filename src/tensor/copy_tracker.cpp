#include "bitnet/tensor/copy_tracker.h"

#include <map>

namespace bitnet {
namespace {

/// Counters register themselves while static objects are made, in any order: a list that needs no
/// construction.
constinit std::atomic<CopyCounter*> first_counter{nullptr};

}  // namespace

CopyCounter::CopyCounter(std::string_view name) : name_(name), next_(first_counter.load()) {
  while (!first_counter.compare_exchange_weak(next_, this)) {
  }
}

CopyCounts CopyCounter::counts() const {
  // copies first: an operation counted meanwhile then never makes more copies than operations.
  const uint64_t copies = copies_.load(std::memory_order_relaxed);
  const uint64_t bytes = bytes_.load(std::memory_order_relaxed);
  return {operations_.load(std::memory_order_relaxed), copies, bytes};
}

CopyCounts CopyTracker::totals() {
  CopyCounts sum;
  for (const Entry& entry : per_operation()) {
    sum.operations += entry.counts.operations;
    sum.copies += entry.counts.copies;
    sum.copied_bytes += entry.counts.copied_bytes;
  }
  return sum;
}

std::vector<CopyTracker::Entry> CopyTracker::per_operation() {
  std::map<std::string_view, CopyCounts> by_name;
  for (const CopyCounter* counter = first_counter.load(); counter != nullptr; counter = counter->next_) {
    const CopyCounts counts = counter->counts();
    if (counts.operations == 0) continue;
    CopyCounts& sum = by_name[counter->name()];
    sum.operations += counts.operations;
    sum.copies += counts.copies;
    sum.copied_bytes += counts.copied_bytes;
  }
  std::vector<Entry> entries;
  for (const auto& [name, counts] : by_name) entries.push_back({name, counts});
  return entries;
}

void CopyTracker::reset() {
  for (CopyCounter* counter = first_counter.load(); counter != nullptr; counter = counter->next_) {
    counter->copies_.store(0, std::memory_order_relaxed);
    counter->bytes_.store(0, std::memory_order_relaxed);
    counter->operations_.store(0, std::memory_order_relaxed);
  }
}

}  // namespace bitnet
