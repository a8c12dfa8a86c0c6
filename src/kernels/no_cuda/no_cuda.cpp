// Stands in for the folder cuda where the build has no CUDA compiler.

#include "bitnet/core/error.h"
#include "bitnet/kernels/cuda.h"
#include "kernels/cuda_tensor_table.h"

namespace bitnet {
namespace {

constexpr const char* kReason = "this build has no CUDA kernels";

}  // namespace

CudaDevices cuda_devices() {
  return {.devices = {}, .reason = kReason};
}

const cuda::Table& cuda::table() {
  throw Error(ErrorCode::kUnsupported, kReason, "build with nvcc and -DBITNET_CUDA=ON");
}

const cuda::TensorTable& cuda::tensor_table() {
  throw Error(ErrorCode::kUnsupported, kReason, "build with nvcc and -DBITNET_CUDA=ON");
}

}  // namespace bitnet
