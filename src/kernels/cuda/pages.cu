// Memory by pages: the driver's virtual memory management, which the runtime does not wrap. The driver
// library is looked up when first used, so that the program starts without it.

#include "kernels/cuda/launch.cuh"

#include <cuda.h>
#include <dlfcn.h>

namespace bitnet::cuda {
namespace {

struct Driver {
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) free = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  bool complete = true;
};

template <class Function>
void find_in(void* library, const char* name, Function& function, bool& complete) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  complete = complete && function != nullptr;
}

Driver load_driver() {
  Driver driver;
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return {.complete = false};
  find_in(library, "cuMemGetAllocationGranularity", driver.granularity, driver.complete);
  find_in(library, "cuMemAddressReserve", driver.reserve, driver.complete);
  find_in(library, "cuMemAddressFree", driver.free, driver.complete);
  find_in(library, "cuMemCreate", driver.create, driver.complete);
  find_in(library, "cuMemRelease", driver.release, driver.complete);
  find_in(library, "cuMemMap", driver.map, driver.complete);
  find_in(library, "cuMemUnmap", driver.unmap, driver.complete);
  find_in(library, "cuMemSetAccess", driver.set_access, driver.complete);
  return driver;
}

const Driver& driver() {
  static const Driver loaded = load_driver();
  return loaded;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  return device;
}

CUmemLocation location() {
  return {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = current_device()};
}

CUmemAllocationProp properties() {
  CUmemAllocationProp found = {};
  found.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  found.location = location();
  return found;
}

void check_driver(CUresult status, const char* what) {
  if (status == CUDA_SUCCESS) return;
  throw Error(ErrorCode::kInternal, std::string(what) + " failed on the GPU: driver error " +
                                        std::to_string(static_cast<int>(status)));
}

CUdeviceptr address_of(const void* pointer) {
  return reinterpret_cast<CUdeviceptr>(pointer);
}

}  // namespace

size_t page_bytes() {
  int supported = 0;
  check(cudaFree(nullptr), "starting the device");  // makes its context the driver's current one
  const auto attribute = static_cast<cudaDeviceAttr>(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
  if (cudaDeviceGetAttribute(&supported, attribute, current_device()) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  if (supported == 0 || !driver().complete) return 0;
  const CUmemAllocationProp prop = properties();
  size_t bytes = 0;
  const CUresult status = driver().granularity(&bytes, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
  return status == CUDA_SUCCESS ? bytes : 0;
}

void* reserve_addresses(size_t bytes) {
  CUdeviceptr pointer = 0;
  check_driver(driver().reserve(&pointer, bytes, 0, 0, 0), "reserving addresses");
  return reinterpret_cast<void*>(pointer);
}

void free_addresses(void* address, size_t bytes) noexcept {
  (void)driver().free(address_of(address), bytes);
}

Page create_page() {
  const CUmemAllocationProp prop = properties();
  const size_t bytes = page_bytes();
  CUmemGenericAllocationHandle page = 0;
  const CUresult status = driver().create(&page, bytes, &prop, 0);
  if (status == CUDA_ERROR_OUT_OF_MEMORY)
    throw Error(ErrorCode::kOutOfMemory, "the GPU has no room for " + std::to_string(bytes) + " more bytes");
  check_driver(status, "allocating a page");
  return page;
}

void destroy_page(Page page) noexcept {
  (void)driver().release(page);
}

void map_page(void* address, Page page) {
  const size_t bytes = page_bytes();
  check_driver(driver().map(address_of(address), bytes, 0, page, 0), "mapping a page");
  const CUmemAccessDesc access = {.location = location(), .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  const CUresult status = driver().set_access(address_of(address), bytes, &access, 1);
  if (status != CUDA_SUCCESS) (void)driver().unmap(address_of(address), bytes);
  check_driver(status, "mapping a page");
}

void unmap_page(void* address, size_t bytes) noexcept {
  (void)driver().unmap(address_of(address), bytes);
}

void finish() {
  check(cudaDeviceSynchronize(), "a kernel");
}

}  // namespace bitnet::cuda
