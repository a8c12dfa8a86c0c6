// Stream-ordered memory, and the table.

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor.cuh"

namespace bitnet::cuda {
namespace {

cudaMemPool_t current_pool() {
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "asking for the memory pool");
  return pool;
}

int64_t reserved_bytes(cudaMemPool_t pool) {
  uint64_t bytes = 0;
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &bytes), "reading the memory pool");
  return static_cast<int64_t>(bytes);
}

int64_t trim_pool(int64_t keep_bytes) {
  const cudaMemPool_t pool = current_pool();
  const int64_t before = reserved_bytes(pool);
  check(cudaMemPoolTrimTo(pool, static_cast<size_t>(keep_bytes)), "trimming the memory pool");
  return before - reserved_bytes(pool);
}

void device_to_device(void* destination, const void* source, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToDevice, native(stream)), "a copy");
}

void order(Stream first, Stream second) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  cudaError_t status = cudaEventRecord(event, native(first));
  if (status == cudaSuccess) status = cudaStreamWaitEvent(native(second), event);
  (void)cudaEventDestroy(event);  // once it has been waited for
  check(status, "ordering streams");
}

}  // namespace

void* allocate_ordered(size_t bytes, Stream stream) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMallocAsync(&pointer, bytes, native(stream));
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    throw Error(ErrorCode::kOutOfMemory, "the GPU has no room for " + std::to_string(bytes) + " more bytes",
                "free other tensors or trim their pool first");
  }
  check(status, "allocating memory");
  return pointer;
}

void release_ordered(void* pointer, Stream stream) noexcept {
  (void)cudaFreeAsync(pointer, native(stream));
}

const TensorTable& tensor_table() {
  static constexpr TensorTable functions = {
      .allocate_ordered = allocate_ordered,
      .release_ordered = release_ordered,
      .trim_pool = trim_pool,
      .device_to_device = device_to_device,
      .order = order,
      .element = element,
      .reduce = reduce,
      .matmul = matmul,
  };
  return functions;
}

}  // namespace bitnet::cuda
