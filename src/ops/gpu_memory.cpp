// The GPUs' memory and pinned host memory as sources of the pools; streams; transfers.

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/kernels/cuda.h"
#include "bitnet/memory/pool.h"
#include "bitnet/ops/backend.h"
#include "bitnet/ops/devices.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"
#include "ops/gpu_backend.h"
#include "ops/gpu_stream.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int kMostGpus = 64;
constexpr int64_t kStagingBytes = int64_t{4} << 20;

CopyCounter to_device_counter("to_device");

const CudaDevices& gpus() {
  static const CudaDevices found = cuda_devices();
  return found;
}

class PinnedSource : public MemorySource {
 public:
  [[nodiscard]] std::string_view name() const override { return "pinned"; }
  [[nodiscard]] void* map(size_t bytes) override {
    try {
      return cuda::table().allocate_pinned(bytes);
    } catch (const Error&) {
      return nullptr;  // the pool says what was wanted and what is held
    }
  }
  void unmap(void* memory, size_t /*bytes*/) noexcept override { cuda::table().release_pinned(memory); }
  [[nodiscard]] MemoryCapacity capacity() const override { return system_memory_source()->capacity(); }
};

/// cudaMallocAsync's pool beneath ours: regions that ours gives back stay with the driver until they are
/// trimmed.
class GpuSource : public MemorySource {
 public:
  explicit GpuSource(Device device) : device_(device), name_(to_string(device)) {}
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] void* map(size_t bytes) override {
    try {
      const cuda::Stream stream = use_gpu(device_);
      void* memory = cuda::tensor_table().allocate_ordered(bytes, stream);
      return memory;
    } catch (const Error&) {
      return nullptr;
    }
  }
  void unmap(void* memory, size_t /*bytes*/) noexcept override {
    try {
      cuda::tensor_table().release_ordered(memory, use_gpu(device_));
      (void)cuda::tensor_table().trim_pool(0);
    } catch (const Error&) {  // a lost device has no memory to give back
    }
  }
  [[nodiscard]] bool host_accessible() const override { return false; }
  void zero(void* memory, size_t bytes) override { cuda::table().clear(memory, bytes, use_gpu(device_)); }
  [[nodiscard]] MemoryCapacity capacity() const override {
    (void)use_gpu(device_);
    const cuda::MemoryInfo info = cuda::table().memory();
    return {info.total_bytes - info.free_bytes, info.total_bytes};
  }

 private:
  Device device_;
  std::string name_;
};

/// Two pinned buffers: while one travels, the other is filled or emptied.
class Staging {
 public:
  Staging() {
    for (auto& buffer : buffers_) {
      buffer = HybridMemoryPool::instance({DeviceType::kPinned, 0}).allocate_typed<std::byte>(kStagingBytes);
    }
  }
  std::byte* buffer(int64_t turn) { return buffers_[static_cast<size_t>(turn % 2)].data(); }

 private:
  std::array<PoolArray<std::byte>, 2> buffers_;
};

void upload(std::byte* to, const std::byte* from, int64_t bytes, cuda::Stream stream, bool pinned) {
  if (pinned) {
    cuda::table().to_device(to, from, static_cast<size_t>(bytes), stream);
    cuda::table().synchronize(stream);
    return;
  }
  Staging staging;
  for (int64_t done = 0, turn = 0; done < bytes; ++turn) {
    const int64_t part = std::min(kStagingBytes, bytes - done);
    // The buffer of two turns ago: its copy has ended once the one behind it was waited for.
    std::memcpy(staging.buffer(turn), from + done, static_cast<size_t>(part));
    cuda::table().synchronize(stream);
    cuda::table().to_device(to + done, staging.buffer(turn), static_cast<size_t>(part), stream);
    done += part;
  }
  cuda::table().synchronize(stream);
}

void download(std::byte* to, const std::byte* from, int64_t bytes, cuda::Stream stream, bool pinned) {
  if (pinned) {
    cuda::table().to_host(to, from, static_cast<size_t>(bytes), stream);
    cuda::table().synchronize(stream);
    return;
  }
  Staging staging;
  const auto fetch = [&](int64_t turn) {
    const int64_t begin = turn * kStagingBytes;
    if (begin >= bytes) return;
    cuda::table().to_host(staging.buffer(turn), from + begin,
                          static_cast<size_t>(std::min(kStagingBytes, bytes - begin)), stream);
  };
  fetch(0);
  for (int64_t turn = 0; turn * kStagingBytes < bytes; ++turn) {
    cuda::table().synchronize(stream);
    fetch(turn + 1);
    const int64_t begin = turn * kStagingBytes;
    std::memcpy(to + begin, staging.buffer(turn),
                static_cast<size_t>(std::min(kStagingBytes, bytes - begin)));
  }
}

Tensor on_device(const Tensor& like, Device device) {
  Tensor result = empty(like.shape(), like.dtype(), device);
  return like.quantization() ? result.with_quantization(*like.quantization()) : result;
}

}  // namespace

cuda::Stream use_gpu(Device device) {
  static std::array<cuda::Stream, kMostGpus> streams{};
  static std::array<std::once_flag, kMostGpus> made;
  const bool known =
      std::ranges::any_of(gpus().devices, [&](const CudaDevice& gpu) { return gpu.index == device.index; });
  if (device.type != DeviceType::kCuda || !known || device.index >= kMostGpus) {
    throw Error(ErrorCode::kDevice,
                fmt::format("there is no device {} that this build can use: {}", to_string(device),
                            gpus().reason.empty() ? "no GPU of that number" : gpus().reason),
                "see `bitnet info` for the devices of this machine");
  }
  cuda::table().use_device(device.index);
  const auto index = static_cast<size_t>(device.index);
  std::call_once(made[index], [&] { streams[index] = cuda::table().create_stream(); });
  return streams[index];
}

GpuTurn::GpuTurn(Device device, const ExecutionContext& context)
    : stream_(use_gpu(device)), callers_(static_cast<cuda::Stream>(context.stream)) {
  if (callers_ != nullptr) cuda::tensor_table().order(callers_, stream_);
}

GpuTurn::~GpuTurn() {
  if (callers_ == nullptr) return;
  try {
    cuda::tensor_table().order(stream_, callers_);
  } catch (const Error& error) {  // of a GPU that is lost: its next use throws
    log_message(LogLevel::kError, error.what());
  }
}

bool register_gpu_memory() {
  static const bool any = [] {
    for (const CudaDevice& gpu : gpus().devices) {
      const Device device{DeviceType::kCuda, gpu.index};
      HybridMemoryPool::register_source(device, std::make_shared<GpuSource>(device));
      register_backend(ops::make_gpu_backend(device));
    }
    if (!gpus().devices.empty()) {
      HybridMemoryPool::register_source({DeviceType::kPinned, 0}, std::make_shared<PinnedSource>());
    }
    return !gpus().devices.empty();
  }();
  return any;
}

Tensor to_device(const Tensor& tensor, Device device) {
  if (!tensor.defined()) throw Error(ErrorCode::kInvalidTensor, "to_device: the tensor holds nothing");
  const Device from = tensor.device();
  if (from == device) {
    to_device_counter.add(0);
    return tensor;
  }
  if (!register_gpu_memory() || (!is_host(device) && device.type != DeviceType::kCuda)) {
    const Device absent = is_host(device) ? from : device;
    throw Error(ErrorCode::kDevice,
                fmt::format("to_device: {} is not available: {}", to_string(absent),
                            gpus().reason.empty() ? "it is not built" : gpus().reason),
                "see `bitnet info` for the devices of this machine");
  }
  if (!tensor.is_contiguous() && !is_host(from)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("to_device: the tensor on {} is not contiguous", to_string(from)),
                "make it contiguous on its device first");
  }
  if (!is_host(device)) (void)use_gpu(device);  // refuses a number that no GPU has
  const Tensor source = is_host(from) ? contiguous(tensor) : tensor;
  Tensor result = on_device(source, device);
  to_device_counter.add(result.nbytes());
  if (result.numel() == 0) return result;
  const int64_t bytes = result.nbytes();
  if (is_host(from) && is_host(device)) {
    std::memcpy(result.bytes(), source.bytes(), static_cast<size_t>(bytes));
  } else if (is_host(from)) {
    const GpuTurn turn(device);
    upload(result.bytes(), source.bytes(), bytes, turn.stream(), from.type == DeviceType::kPinned);
  } else if (is_host(device)) {
    const GpuTurn turn(from);
    download(result.bytes(), source.bytes(), bytes, turn.stream(), device.type == DeviceType::kPinned);
  } else {
    cuda::table().synchronize(use_gpu(from));
    const cuda::Stream stream = use_gpu(device);
    cuda::tensor_table().device_to_device(result.bytes(), source.bytes(), static_cast<size_t>(bytes), stream);
    cuda::table().synchronize(stream);
  }
  return result;
}

}  // namespace bitnet
