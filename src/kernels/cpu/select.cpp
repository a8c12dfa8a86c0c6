#include "kernels/cpu/select.h"

#include "bitnet/core/error.h"
#include "kernels/cpu/contest.h"
#include "kernels/cpu/tables.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

struct Candidate {
  const KernelTable* table;
  bool (*can_run)(const CpuFeatures&);
};

// Every table of this build, best first.
constexpr Candidate kCandidates[] = {
#if defined(__x86_64__)
    {&amx::kTable, [](const CpuFeatures& f) { return f.amx_int8 && f.avx512_vnni && f.avx512_vbmi; }},
    {&avx512vnni::kVbmiTable, [](const CpuFeatures& f) { return f.avx512_vnni && f.avx512_vbmi; }},
    {&avx512vnni::kTable, [](const CpuFeatures& f) { return f.avx512_vnni; }},
    {&avxvnni::kTable, [](const CpuFeatures& f) { return f.avx_vnni; }},
    {&avx2::kTable, [](const CpuFeatures& f) { return f.avx2; }},
#elif defined(__aarch64__)
    {&neon_i8mm::kTable, [](const CpuFeatures& f) { return f.neon_i8mm; }},
    {&neon_dotprod::kTable, [](const CpuFeatures& f) { return f.neon_dotprod; }},
    {&neon::kTable, [](const CpuFeatures& f) { return f.neon; }},
#endif
    {&scalar::kTable, [](const CpuFeatures&) { return true; }},
};

std::string names_of(const std::vector<const KernelTable*>& tables) {
  std::string names;
  for (const KernelTable* table : tables) names.append(names.empty() ? "" : ", ").append(table->name);
  return names;
}

bool is_built(std::string_view name) {
  for (const Candidate& candidate : kCandidates) {
    if (candidate.table->name == name) return true;
  }
  return false;
}

const std::vector<const KernelTable*>& tables_of_this_machine() {
  static const std::vector<const KernelTable*> tables = runnable(cpu_features());
  return tables;
}

// Measured once in a process.
const std::vector<Contender>& contenders_of_this_machine() {
  static const std::vector<Contender> contenders = [] {
    std::vector<Contender> measured;
    for (const KernelTable* table : close_tables(cpu_features()))
      measured.push_back({table, measure_ternary(*table)});
    return measured;
  }();
  return contenders;
}

}  // namespace

std::vector<const KernelTable*> runnable(const CpuFeatures& features) {
  std::vector<const KernelTable*> tables;
  for (const Candidate& candidate : kCandidates) {
    if (candidate.can_run(features)) tables.push_back(candidate.table);
  }
  return tables;
}

const KernelTable& select(const CpuFeatures& features, std::string_view forced) {
  const std::vector<const KernelTable*> tables = runnable(features);
  if (forced.empty()) return *tables.front();
  for (const KernelTable* table : tables) {
    if (table->name == forced) return *table;
  }
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("select_kernels: instruction set '{}' {}; available: {}", forced,
                  is_built(forced) ? "cannot run on this machine" : "is not in this build", names_of(tables)),
      "Unset BITNET_ISA or the --isa option to take the best one.");
}

const KernelTable& select_kernels(std::string_view forced) {
  if (forced.empty()) {
    if (const char* variable = std::getenv("BITNET_ISA")) forced = variable;
  }
  if (forced.empty() && !contenders_of_this_machine().empty()) return fastest(contenders_of_this_machine());
  return select(cpu_features(), forced);
}

const KernelTable* const* runnable_kernels(int* count) {
  const auto& tables = tables_of_this_machine();
  *count = static_cast<int>(tables.size());
  return tables.data();
}

}  // namespace bitnet::kernels

namespace bitnet {

std::vector<std::string_view> available_isas() {
  std::vector<std::string_view> names;
  for (const kernels::KernelTable* table : kernels::runnable(cpu_features())) names.push_back(table->name);
  return names;
}

std::string_view chosen_isa(std::string_view forced) {
  return kernels::select_kernels(forced).name;
}

std::vector<MeasuredIsa> measured_isas() {
  std::vector<MeasuredIsa> isas;
  for (const kernels::Contender& contender : kernels::contenders_of_this_machine())
    isas.push_back({contender.table->name, contender.seconds});
  return isas;
}

std::optional<MeasuredLayouts> measured_layouts(std::string_view forced_isa, int threads) {
  const kernels::KernelTable& table = kernels::select_kernels(forced_isa);
  // The scalar table's is the definition, not a fast way.
  if (table.ternary_tight == nullptr || table.name == "scalar") return std::nullopt;
  static std::mutex mutex;
  static std::map<std::pair<const kernels::KernelTable*, int>, MeasuredLayouts> measured;
  const std::scoped_lock lock(mutex);
  ThreadPool pool(threads);
  const auto key = std::pair(&table, pool.size());
  const auto known = measured.find(key);
  if (known != measured.end()) return known->second;
  return measured.emplace(key, kernels::measure_layouts(table, pool)).first->second;
}

}  // namespace bitnet
