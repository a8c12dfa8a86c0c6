#include "bitnet/ops/blas.h"

#include "bitnet/core/log.h"
#include "bitnet/kernels/cpu.h"
#include "ops/blas.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

// In every flavour of OpenBLAS.
extern "C" {
char* openblas_get_config(void);
char* openblas_get_corename(void);
int openblas_get_parallel(void);  // 0: built without threads, 1: with its own, 2: OpenMP
void openblas_set_num_threads(int threads);
}

namespace bitnet {
namespace {

/// Releases older than a processor take kernels of the distant past for it: 0.3.21 on Sapphire Rapids those
/// of Prescott, which knew no AVX.
std::string advice_for(std::string_view kernels, bool concurrent) {
  constexpr std::string_view kWithAvx2[] = {"Haswell",        "Zen",      "SkylakeX", "Cooperlake",
                                            "SapphireRapids", "Excavator"};
  const CpuFeatures& cpu = cpu_features();
  const auto same = [&](std::string_view name) {
    return std::ranges::equal(name, kernels, [](char a, char b) { return (a | 0x20) == (b | 0x20); });
  };
  std::string advice;
  if (cpu.avx2 && std::ranges::none_of(kWithAvx2, same)) {
    advice = fmt::format(
        "its kernels for {} leave most of this processor unused: start with OPENBLAS_CORETYPE={} in the "
        "environment, or install a newer OpenBLAS",
        kernels, cpu.avx512 ? "SkylakeX" : "Haswell");
  }
  if (!concurrent) {
    advice += fmt::format(
        "{}it was built without threads, so that one call runs at a time: install its pthread flavour "
        "(libopenblas0-pthread)",
        advice.empty() ? "" : "; ");
  }
  return advice;
}

BlasLibrary look() {
  openblas_set_num_threads(1);
  BlasLibrary library;
  library.config = openblas_get_config();
  library.kernels = openblas_get_corename();
  library.concurrent = openblas_get_parallel() != 0;
  library.advice = advice_for(library.kernels, library.concurrent);
  if (!library.advice.empty()) log_message(LogLevel::kWarning, "OpenBLAS: " + library.advice);
  return library;
}

}  // namespace

const BlasLibrary& blas_library() {
  static const BlasLibrary library = look();
  return library;
}

blas::CallGuard::CallGuard() {
  static const bool concurrent = blas_library().concurrent;
  static std::mutex mutex;
  if (!concurrent) lock_ = std::unique_lock(mutex);
}

}  // namespace bitnet
