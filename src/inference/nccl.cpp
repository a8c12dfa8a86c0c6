#include "inference/nccl.h"

#include "bitnet/core/error.h"

#include <string>

#include <dlfcn.h>
#include <fmt/format.h>

namespace bitnet::cuda {
namespace {

constexpr int kNcclFloat = 7;  // ncclFloat32 of ncclDataType_t
constexpr const char* kNcclNames[] = {"libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2",
                                      "/usr/local/cuda/lib/libnccl.so.2"};

void* open_nccl() {
  std::string tried;
  for (const char* name : kNcclNames) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    const char* const reason = dlerror();
    tried += fmt::format("{}{}", tried.empty() ? "" : "; ", reason == nullptr ? name : reason);
  }
  throw Error(ErrorCode::kBackend,
              fmt::format("these GPUs exchange vectors through NCCL, which was not found: {}", tried),
              "install libnccl2 (NVIDIA's repository; PyTorch's wheels have it, too), and name its folder in "
              "LD_LIBRARY_PATH where the loader does not look by itself");
}

template <class Function>
void find_nccl(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr)
    throw Error(ErrorCode::kBackend, fmt::format("libnccl.so.2 has no function {}", name),
                "install NCCL 2.4 or newer");
}

}  // namespace

Nccl::Nccl() {
  void* const library = open_nccl();
  find_nccl(library, "ncclGetErrorString", error_string_);
  find_nccl(library, "ncclCommInitAll", comm_init_all_);
  find_nccl(library, "ncclCommDestroy", comm_destroy_);
  find_nccl(library, "ncclAllGather", all_gather_);
  find_nccl(library, "ncclGroupStart", group_start_);
  find_nccl(library, "ncclGroupEnd", group_end_);
}

const Nccl& Nccl::get() {
  static const Nccl loaded;
  return loaded;
}

void Nccl::check(int status, const char* what) const {
  if (status == 0) return;
  throw Error(ErrorCode::kBackend, fmt::format("NCCL: {} failed: {}", what, error_string_(status)),
              "NCCL_DEBUG=INFO in the environment makes NCCL say more");
}

void Nccl::create(Communicator* communicators, int count, const int* devices) const {
  check(comm_init_all_(communicators, count, devices), "ncclCommInitAll");
}

void Nccl::destroy(Communicator communicator) const noexcept {
  (void)comm_destroy_(communicator);
}

void Nccl::all_gather(float* values, size_t count, int rank, Communicator communicator, Stream stream) const {
  const float* const own = values + static_cast<size_t>(rank) * count;
  check(all_gather_(own, values, count, kNcclFloat, communicator, stream), "ncclAllGather");
}

void Nccl::begin_group() const {
  check(group_start_(), "ncclGroupStart");
}

void Nccl::end_group() const {
  check(group_end_(), "ncclGroupEnd");
}

}  // namespace bitnet::cuda
