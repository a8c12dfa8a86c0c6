#pragma once

#include "bitnet/tensor/tensor.h"

#include <cstdint>

namespace bitnet {

/// The structures of DLPack 0.8 (dmlc/dlpack, include/dlpack/dlpack.h), whose memory layout is the interface;
/// in a namespace, so that they do not meet a copy of that header.
namespace dlpack {

struct DLDevice {
  int32_t device_type;  ///< 1 CPU, 2 CUDA, 3 pinned host memory
  int32_t device_id;
};
struct DLDataType {
  uint8_t code;  ///< 0 int, 1 uint, 2 float, 4 bfloat, 6 bool
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  ///< in elements; null for row-major
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor* self);
};

}  // namespace dlpack

/// The tensor's own memory for another library, which calls deleter once when done. Plain types only (DLPack
/// has no word for packed ones): kUnsupported. Read-only storage: kUnsupported, as DLPack 0.8 cannot say so.
[[nodiscard]] dlpack::DLManagedTensor* to_dlpack(const Tensor& tensor);

/// A tensor over the other library's memory. Takes the structure over: its deleter runs when the last tensor
/// over it goes, or before this throws. Throws kUnsupported for types and devices that we do not have,
/// kInvalidTensor for one that contradicts itself or is not aligned to its type.
[[nodiscard]] Tensor from_dlpack(dlpack::DLManagedTensor* managed);

}  // namespace bitnet
