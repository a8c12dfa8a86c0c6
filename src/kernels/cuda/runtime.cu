// Devices, memory, streams and graphs.

#include "bitnet/kernels/cuda.h"
#include "kernels/cuda/launch.cuh"

#include <array>
#include <mutex>

namespace bitnet {
namespace cuda {
namespace {

constexpr int kOldestMajor = 8;  // dp4a alone would allow 6.1; mma of int8 with k = 32 and cp.async need 8.0
constexpr int kMostDevices = 64;

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, name, device), "reading a device attribute");
  return value;
}

DeviceLimits read_limits(int device) {
  return {.multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device),
          .shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          .overlapped_launch = attribute(cudaDevAttrComputeCapabilityMajor, device) >= 9,
          .clusters = attribute(cudaDevAttrClusterLaunch, device) != 0,
          .wgmma = attribute(cudaDevAttrComputeCapabilityMajor, device) == 9 &&
                   attribute(cudaDevAttrComputeCapabilityMinor, device) == 0};
}

void use_device(int index) {
  check(cudaSetDevice(index), "choosing a device");
}

MemoryInfo memory() {
  size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the free memory");
  return {static_cast<int64_t>(free_bytes), static_cast<int64_t>(total_bytes)};
}

void* allocate(size_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes);
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    throw Error(ErrorCode::kOutOfMemory,
                "the GPU has no room for " + std::to_string(bytes) + " more bytes; " +
                    std::to_string(memory().free_bytes) + " are free",
                "ask for a smaller --context or --kv f16, or use another device");
  }
  check(status, "allocating memory");
  return pointer;
}

void release(void* pointer) noexcept {
  (void)cudaFree(pointer);
}

void* allocate_pinned(size_t bytes) {
  void* pointer = nullptr;
  if (cudaMallocHost(&pointer, bytes) != cudaSuccess) {
    (void)cudaGetLastError();
    throw Error(ErrorCode::kOutOfMemory, "no room for " + std::to_string(bytes) + " bytes of pinned memory");
  }
  return pointer;
}

void release_pinned(void* pointer) noexcept {
  (void)cudaFreeHost(pointer);
}

Stream create_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return reinterpret_cast<Stream>(stream);
}

void destroy_stream(Stream stream) noexcept {
  (void)cudaStreamDestroy(native(stream));
}

void synchronize(Stream stream) {
  check(cudaStreamSynchronize(native(stream)), "a kernel");
}

void to_device(void* destination, const void* source, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyHostToDevice, native(stream)), "a copy");
}

void to_host(void* destination, const void* source, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToHost, native(stream)), "a copy");
}

void clear(void* destination, size_t bytes, Stream stream) {
  check(cudaMemsetAsync(destination, 0, bytes, native(stream)), "clearing memory");
}

Event create_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  return reinterpret_cast<Event>(event);
}

void destroy_event(Event event) noexcept {
  (void)cudaEventDestroy(reinterpret_cast<cudaEvent_t>(event));
}

void record(Event event, Stream stream) {
  check(cudaEventRecord(reinterpret_cast<cudaEvent_t>(event), native(stream)), "recording an event");
}

void wait(Event event) {
  check(cudaEventSynchronize(reinterpret_cast<cudaEvent_t>(event)), "a kernel");
}

void begin_capture(Stream stream) {
  check(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal), "capturing a graph");
}

Graph end_capture(Stream stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(native(stream), &graph), "capturing a graph");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  check(status, "making a graph");
  return reinterpret_cast<Graph>(executable);
}

void launch_graph(Graph graph, Stream stream) {
  check(cudaGraphLaunch(reinterpret_cast<cudaGraphExec_t>(graph), native(stream)), "launching a graph");
}

void destroy_graph(Graph graph) noexcept {
  (void)cudaGraphExecDestroy(reinterpret_cast<cudaGraphExec_t>(graph));
}

}  // namespace

const DeviceLimits& device_limits() {
  static std::array<DeviceLimits, kMostDevices> limits;
  static std::array<std::once_flag, kMostDevices> read;
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  const auto index = static_cast<size_t>(device);
  std::call_once(read.at(index), [&] { limits.at(index) = read_limits(device); });
  return limits.at(index);
}

const Table& table() {
  static constexpr Table functions = {
      .use_device = use_device,
      .memory = memory,
      .allocate = allocate,
      .release = release,
      .allocate_pinned = allocate_pinned,
      .release_pinned = release_pinned,
      .page_bytes = page_bytes,
      .reserve_addresses = reserve_addresses,
      .free_addresses = free_addresses,
      .create_page = create_page,
      .destroy_page = destroy_page,
      .map_page = map_page,
      .unmap_page = unmap_page,
      .finish = finish,
      .create_stream = create_stream,
      .destroy_stream = destroy_stream,
      .synchronize = synchronize,
      .to_device = to_device,
      .to_host = to_host,
      .clear = clear,
      .create_event = create_event,
      .destroy_event = destroy_event,
      .record = record,
      .wait = wait,
      .begin_capture = begin_capture,
      .end_capture = end_capture,
      .launch_graph = launch_graph,
      .destroy_graph = destroy_graph,
      .ternary_gemv = ternary_gemv,
      .quantize = quantize,
      .gemm_takes_image = gemm_takes_image,
      .ternary_gemm = ternary_gemm,
      .naive_ternary = naive_ternary,
      .embed = embed,
      .head = head,
      .round_head = round_head,
      .head_top_scratch = head_top_scratch,
      .head_top = head_top,
      .sample = sample,
      .rope_table = rope_table,
      .rope_store = rope_store,
      .prefill_attention = prefill_attention,
      .mma_attention_runs = mma_attention_runs,
      .mma_attention = mma_attention,
      .decode_attention = decode_attention,
      .i8_attention = i8_attention,
      .i8_shift = i8_shift,
      .step_runs = step_runs,
      .step_exchange_bytes = step_exchange_bytes,
      .decode_step = decode_step,
      .shift = shift,
      .glu = glu,
      .can_reach = can_reach,
      .reach = reach,
      .gather_area_bytes = gather_area_bytes,
      .next_pass = next_pass,
      .gather_few = gather_few,
      .gather_many = gather_many,
      .pack = pack,
      .unpack = unpack,
      .read_memory = read_memory,
      .int8_peak = int8_peak,
  };
  return functions;
}

}  // namespace cuda

CudaDevices cuda_devices() {
  CudaDevices found;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    found.reason = status == cudaErrorInsufficientDriver
                       ? "no NVIDIA driver, or one too old for this build's CUDA runtime"
                       : std::string("the CUDA runtime says: ") + cudaGetErrorString(status);
    return found;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties = {};
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess || properties.major < cuda::kOldestMajor)
      continue;
    found.devices.push_back({.index = i,
                             .name = properties.name,
                             .compute_major = properties.major,
                             .compute_minor = properties.minor,
                             .multiprocessors = properties.multiProcessorCount,
                             .total_bytes = static_cast<int64_t>(properties.totalGlobalMem),
                             .l2_bytes = properties.l2CacheSize,
                             .reaches = {}});
  }
  for (CudaDevice& device : found.devices) {
    for (const CudaDevice& other : found.devices) {
      if (other.index != device.index && cuda::can_reach(device.index, other.index))
        device.reaches.push_back(other.index);
    }
  }
  if (found.devices.empty()) found.reason = "no GPU of compute capability 8.0 or newer";
  return found;
}

}  // namespace bitnet
