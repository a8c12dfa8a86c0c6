#pragma once

// Host side of the kernels: error checks and launches.

#include "bitnet/core/error.h"
#include "kernels/cuda_table.h"

#include <cstdint>
#include <string>
#include <type_traits>

#include <cuda_runtime.h>

namespace bitnet::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();
  throw Error(ErrorCode::kInternal, std::string(what) + " failed on the GPU: " + cudaGetErrorString(status));
}

inline cudaStream_t native(Stream stream) {
  return reinterpret_cast<cudaStream_t>(stream);
}

template <class T>
constexpr T ceil_div(T value, T divisor) {
  return (value + divisor - 1) / divisor;
}

/// Properties of the current device that launches depend on.
struct DeviceLimits {
  int multiprocessors;
  int shared_bytes;        ///< the most that a block can ask for
  bool overlapped_launch;  ///< programmatic dependent launch exists
  bool clusters;           ///< of blocks
  bool wgmma;              ///< sm_90 itself: no other has these instructions
};
const DeviceLimits& device_limits();

/// Whether a kernel may start before the one queued in front of it has ended. Such a kernel calls
/// wait_for_previous() (device.cuh) before it reads what others wrote, and in every block. kTogether: all
/// blocks run at once, or the launch fails.
enum class Start { kAfterPrevious, kOverlapped, kTogether };

/// Blocks along x that share their shared memory; more than 1 only where device_limits().clusters.
struct Cluster {
  unsigned blocks = 1;
};

template <class Args>
void launch(void (*kernel)(Args), dim3 grid, unsigned threads, size_t shared_bytes, Start start,
            Stream stream, const std::type_identity_t<Args>& args, Cluster cluster = {}) {
  const DeviceLimits& limits = device_limits();
  if (shared_bytes > static_cast<size_t>(limits.shared_bytes)) {
    throw Error(ErrorCode::kUnsupported,
                "a kernel needs " + std::to_string(shared_bytes) + " bytes of shared memory; this GPU has " +
                    std::to_string(limits.shared_bytes),
                "use --device cpu for this model");
  }
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (shared_bytes > kWithoutAsking) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "raising a kernel's shared memory");
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = native(stream);
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (start == Start::kOverlapped && limits.overlapped_launch) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (start == Start::kTogether) {
    attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[config.numAttrs++].val.cooperative = 1;
  }
  if (cluster.blocks > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs].val.clusterDim.x = cluster.blocks;
    attributes[config.numAttrs].val.clusterDim.y = 1;
    attributes[config.numAttrs++].val.clusterDim.z = 1;
  }
  check(cudaLaunchKernelEx(&config, kernel, args), "launching a kernel");
}

size_t page_bytes();
void* reserve_addresses(size_t bytes);
void free_addresses(void* address, size_t bytes) noexcept;
Page create_page();
void destroy_page(Page page) noexcept;
void map_page(void* address, Page page);
void unmap_page(void* address, size_t bytes) noexcept;
void finish();
void ternary_gemv(const GemvArgs& args, Stream stream);
void quantize(const QuantizeArgs& args, Stream stream);
bool gemm_takes_image(int64_t tokens);
void ternary_gemm(const GemmArgs& args, Stream stream);
void wgmma_gemm(const GemmArgs& args, Stream stream);  // of an image
bool prompt_gemm_pays(const GemmArgs& args);           // the tiles give every multiprocessor work
void prompt_gemm(const GemmArgs& args, Stream stream);
void naive_ternary(const GemmArgs& args, Stream stream);
void embed(const EmbedArgs& args, Stream stream);
void head(const HeadArgs& args, Stream stream);
void round_head(const DenseRows& head, const Int8Copy& copy, Stream stream);
size_t head_top_scratch(const DenseRows& head);
void head_top(const HeadTopArgs& args, Stream stream);
void sample(const SampleArgs& args, Stream stream);
void rope_table(const RopeTableArgs& args, Stream stream);
void rope_store(const RopeStoreArgs& args, Stream stream);
void prefill_attention(const PrefillAttentionArgs& args, Stream stream);
bool mma_attention_runs(const Heads& heads, DType kv_type);
void mma_attention(const PrefillAttentionArgs& args, Stream stream);
void wgmma_attention(const PrefillAttentionArgs& args, Stream stream);  // heads of 128 elements, f16
void decode_attention(const DecodeAttentionArgs& args, Stream stream);
void i8_attention(const I8AttentionArgs& args, Stream stream);
void i8_shift(const I8ShiftArgs& args, Stream stream);
bool step_runs(const StepArgs& args);
size_t step_exchange_bytes(const StepArgs& args);
void decode_step(const StepArgs& args, Stream stream);
void shift(const ShiftArgs& args, Stream stream);
void glu(const GluArgs& args, Stream stream);
bool can_reach(int from, int to);
void reach(int peer);
size_t gather_area_bytes();
void next_pass(void* area, uint32_t gathers, Stream stream);
void gather_few(const GatherArgs& args, Stream stream);
void gather_many(const GatherArgs& args, Stream stream);
void pack(const PackArgs& args, Stream stream);
void unpack(const PackArgs& args, Stream stream);
void read_memory(const void* data, size_t bytes, uint32_t* out, Stream stream);
double int8_peak(uint32_t* out, Stream stream);
double wgmma_peak(uint32_t* out, Stream stream);  // where device_limits().wgmma

}  // namespace bitnet::cuda
