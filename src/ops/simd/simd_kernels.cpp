#include "bitnet/core/error.h"
#include "ops/host_backend.h"
#include "ops/simd/loops.h"
#include "ops/simd/targets.h"

#include <fmt/format.h>
#include <hwy/highway.h>

namespace bitnet::ops {

const KernelSet& simd_kernels() {
  static constexpr KernelSet kernels = {
      .loop =
          [](Op op, DType dtype) {
            const LoopKernel kernel = simd::arithmetic_kernel(op, dtype);
            return kernel != nullptr ? kernel : simd::function_kernel(op, dtype);
          },
      .reduce = simd::reduce_kernel,
      .row = simd::row_kernel,
      .contraction = [](Op, DType) { return ContractionKernel(nullptr); },
      .convert = simd::convert_kernel,
      .unit_strides = true,
  };
  return kernels;
}

double measure_multiply_adds() {
  return simd::multiply_adds_per_second();
}

std::vector<std::string_view> simd_targets() {
  std::vector<std::string_view> names;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets())
    names.emplace_back(hwy::TargetName(target));
  return names;
}

void choose_simd_target(std::string_view name) {
  int64_t chosen = 0;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (name == hwy::TargetName(target)) chosen = target;
  }
  if (chosen == 0 && !name.empty()) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("this machine or build has no instruction set {}", name));
  }
  hwy::SetSupportedTargetsForTest(chosen);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace bitnet::ops
