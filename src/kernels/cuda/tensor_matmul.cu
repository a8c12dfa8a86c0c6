// Matrix products by cuBLAS. It is loaded at the first product, so that neither the program nor machines
// without a GPU need it.

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor.cuh"

#include <array>
#include <map>
#include <mutex>

#include <cublas_v2.h>
#include <dlfcn.h>

namespace bitnet::cuda {
namespace {

/// cublasGemmStridedBatchedEx, whose name is overloaded in the header.
using Gemm = cublasStatus_t (*)(cublasHandle_t handle, cublasOperation_t a_operation,
                                cublasOperation_t b_operation, int m, int n, int k, const void* alpha,
                                const void* a, cudaDataType a_type, int a_row, long long a_batch,
                                const void* b, cudaDataType b_type, int b_row, long long b_batch,
                                const void* beta, void* c, cudaDataType c_type, int c_row, long long c_batch,
                                int batch, cublasComputeType_t compute, cublasGemmAlgo_t algorithm);

struct Cublas {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  Gemm gemm = nullptr;
};

void* open_library(std::string& tried) {
  const std::string major = std::to_string(CUBLAS_VER_MAJOR);
  for (const std::string& name :
       {"libcublas.so." + major, std::string("/usr/local/cuda/lib64/libcublas.so." + major),
        std::string("libcublas.so")}) {
    if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    tried += (tried.empty() ? "" : ", ") + name;
  }
  return nullptr;
}

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    throw Error(ErrorCode::kBackend, std::string("cuBLAS has no function ") + name,
                "install the cuBLAS of CUDA 12 or newer");
  }
}

const Cublas& cublas() {
  static const Cublas loaded = [] {
    std::string tried;
    void* library = open_library(tried);
    if (library == nullptr) {
      throw Error(ErrorCode::kBackend,
                  "matrix products on the GPU need cuBLAS, which was not found as " + tried,
                  "install it (libcublas of the CUDA toolkit) or name its folder in LD_LIBRARY_PATH");
    }
    Cublas functions;
    find(library, "cublasCreate_v2", functions.create);
    find(library, "cublasSetStream_v2", functions.set_stream);
    find(library, "cublasGemmStridedBatchedEx", functions.gemm);
    return functions;
  }();
  return loaded;
}

void check_cublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(
      status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorCode::kOutOfMemory : ErrorCode::kBackend,
      std::string("cuBLAS failed in ") + what + " with status " + std::to_string(static_cast<int>(status)));
}

/// One handle per device, used under its lock: cuBLAS handles are not for several threads at once.
struct Handle {
  std::mutex lock;
  cublasHandle_t handle = nullptr;
};

Handle& current_handle() {
  static std::mutex lock;
  static std::map<int, Handle> handles;
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  const std::lock_guard guard(lock);
  Handle& entry = handles[device];
  if (entry.handle == nullptr) check_cublas(cublas().create(&entry.handle), "creating a handle");
  return entry;
}

cudaDataType_t native_type(DType dtype) {
  return dtype == DType::kF16 ? CUDA_R_16F : dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

}  // namespace

void matmul(const MatmulArgs& args, Stream stream) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  Handle& entry = current_handle();
  const std::lock_guard guard(entry.lock);
  check_cublas(cublas().set_stream(entry.handle, native(stream)), "choosing the stream");
  const float one = 1.0f, zero = 0.0f;
  const cudaDataType_t type = native_type(args.dtype);
  // cuBLAS thinks in columns: our rows of c = a b are the columns of b^T a^T.
  check_cublas(
      cublas().gemm(entry.handle, args.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                    args.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, static_cast<int>(args.n),
                    static_cast<int>(args.m), static_cast<int>(args.k), &one, args.b, type,
                    static_cast<int>(args.b_row), args.b_batch, args.a, type, static_cast<int>(args.a_row),
                    args.a_batch, &zero, args.c, type, static_cast<int>(args.c_row), args.c_batch,
                    static_cast<int>(args.batch), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "a matrix product");
}

}  // namespace bitnet::cuda
