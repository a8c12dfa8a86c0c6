#pragma once

#include "bitnet/core/device.h"
#include "bitnet/tensor/tensor.h"

#include <cstdint>
#include <string>
#include <vector>

namespace bitnet {

/// What is known of a device without measuring it.
struct DeviceInfo {
  Device device;
  std::string name;  ///< of the processor or card
  bool available = false;
  std::string reason;      ///< why it is not available; empty if it is
  std::string capability;  ///< the best kernel table ("avx512vnni") or the compute capability ("9.0")
  std::vector<std::string> features;
  int64_t total_bytes = 0, free_bytes = 0;
};

/// The processor, every GPU that this build can use, and the slots that this build leaves empty (a GPU if
/// there is none, Metal, MLX), each of those with the reason. The processor comes first.
[[nodiscard]] std::vector<DeviceInfo> device_infos();
/// Of one device. Throws kDevice with the reason if it is not available.
[[nodiscard]] DeviceInfo device_info(Device device);

struct SelectedDevice {
  Device device;
  std::string reason;  ///< e.g. "the first GPU with 3.2 GB free", "no NVIDIA driver"
};
/// The first GPU with so much free memory, otherwise the processor.
[[nodiscard]] SelectedDevice select_device(int64_t needed_bytes = 0);

/// What a device does, measured in the process when first asked for (a fraction of a second).
struct DeviceSpeed {
  double memory_bytes_per_second = 0;       ///< read and written; of the processor: one core
  double matmul_operations_per_second = 0;  ///< f32, side 1024, two per multiply-add; all threads
  double to_device_bytes_per_second = 0;    ///< from pinned memory; 0 for the processor
  double to_host_bytes_per_second = 0;
};
[[nodiscard]] const DeviceSpeed& device_speed(Device device);

/// Makes pools for pinned memory and for the GPUs (HybridMemoryPool::instance), which zeros(..., device) and
/// empty need. Called by every function here; does nothing the second time. True if there is a GPU.
bool register_gpu_memory();

/// The tensor itself if it lies there already, otherwise a contiguous copy. Ordinary host memory travels
/// through two pinned buffers of 4 MB in turns; pinned memory directly. Returns when the copy is there.
[[nodiscard]] Tensor to_device(const Tensor& tensor, Device device);

}  // namespace bitnet
