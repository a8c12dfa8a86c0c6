#include "ops/host_backend.h"
#include "ops/scalar/find.h"

namespace bitnet::ops {

const KernelSet& scalar_kernels() {
  static constexpr KernelSet kernels = {
      .loop =
          [](Op op, DType dtype) {
            for (const auto find : {scalar::binary_kernel, scalar::unary_kernel, scalar::compare_kernel}) {
              if (const LoopKernel kernel = find(op, dtype); kernel != nullptr) return kernel;
            }
            return LoopKernel(nullptr);
          },
      .reduce = scalar::reduce_kernel,
      .row = scalar::row_kernel,
      .contraction = scalar::contraction_kernel,
      .quantiles = true,
  };
  return kernels;
}

}  // namespace bitnet::ops
