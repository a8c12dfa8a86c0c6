#include "bitnet/ops/devices.h"

#include "bitnet/core/error.h"
#include "bitnet/kernels/cpu.h"
#include "bitnet/kernels/cuda.h"
#include "bitnet/memory/pool.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet {
namespace {

DeviceInfo processor() {
  const CpuFeatures& features = cpu_features();
  DeviceInfo info{.device = kCpuDevice, .name = features.model, .available = true};
  info.capability = available_isas().front();
  for (const std::string_view isa : available_isas()) info.features.emplace_back(isa);
  const MemoryCapacity memory = system_memory_source()->capacity();
  info.total_bytes = memory.total_bytes;
  info.free_bytes = memory.total_bytes - memory.used_bytes;
  return info;
}

DeviceInfo gpu_info(const CudaDevice& gpu) {
  DeviceInfo info{.device = {DeviceType::kCuda, gpu.index}, .name = gpu.name, .available = true};
  info.capability = fmt::format("{}.{}", gpu.compute_major, gpu.compute_minor);
  info.features = {fmt::format("{} multiprocessors", gpu.multiprocessors),
                   fmt::format("{} MB L2", gpu.l2_bytes >> 20)};
  const MemoryCapacity memory = HybridMemoryPool::instance(info.device).source().capacity();
  info.total_bytes = memory.total_bytes;
  info.free_bytes = memory.total_bytes - memory.used_bytes;
  return info;
}

}  // namespace

std::vector<DeviceInfo> device_infos() {
  register_gpu_memory();
  std::vector<DeviceInfo> infos = {processor()};
  const CudaDevices gpus = cuda_devices();
  for (const CudaDevice& gpu : gpus.devices) infos.push_back(gpu_info(gpu));
  if (gpus.devices.empty()) {
    infos.push_back({.device = {DeviceType::kCuda, 0}, .name = "NVIDIA GPU", .reason = gpus.reason});
  }
  infos.push_back({.device = {DeviceType::kMetal, 0},
                   .name = "Apple Metal",
                   .reason = "not built: it needs macOS, on which nothing here was ever run"});
  infos.push_back({.device = {DeviceType::kMlx, 0},
                   .name = "Apple MLX",
                   .reason = "not built: it needs macOS, on which nothing here was ever run"});
  return infos;
}

DeviceInfo device_info(Device device) {
  for (DeviceInfo& info : device_infos()) {
    if (info.device != device) continue;
    if (info.available) return info;
    throw Error(ErrorCode::kDevice, fmt::format("{} is not available: {}", to_string(device), info.reason));
  }
  throw Error(ErrorCode::kDevice, fmt::format("this machine has no {}", to_string(device)),
              "see `bitnet info` for its devices");
}

SelectedDevice select_device(int64_t needed_bytes) {
  std::string reason;
  for (const DeviceInfo& info : device_infos()) {
    if (info.device.type != DeviceType::kCuda) continue;
    if (!info.available) {
      reason = info.reason;
    } else if (info.free_bytes < needed_bytes) {
      reason = fmt::format("{} has {} bytes free, {} are needed", to_string(info.device), info.free_bytes,
                           needed_bytes);
    } else {
      return {info.device, fmt::format("the first GPU with room: {} bytes free", info.free_bytes)};
    }
  }
  return {kCpuDevice, reason};
}

}  // namespace bitnet
