#pragma once

#include "kernels/cuda_table.h"

#include <cstddef>

namespace bitnet::cuda {

/// The functions of NCCL that are used, from libnccl.so.2, which is loaded when first asked for: neither the
/// build nor machines with one GPU need it. Their binary interface has been the same since NCCL 2.0.
///   Source: docs.nvidia.com/deeplearning/nccl, "NCCL API".
class Nccl {
 public:
  using Communicator = void*;  ///< ncclComm_t

  /// Throws kBackend, with what was tried, where it is not found.
  [[nodiscard]] static const Nccl& get();

  /// A communicator for each GPU, in order of rank.
  void create(Communicator* communicators, int count, const int* devices) const;
  void destroy(Communicator communicator) const noexcept;
  /// On every GPU, values[rank * count, + count) of each rank become all of `values`, in place.
  void all_gather(float* values, size_t count, int rank, Communicator communicator, Stream stream) const;
  /// Between the two, one thread can queue for several GPUs.
  void begin_group() const;
  void end_group() const;

 private:
  Nccl();
  void check(int status, const char* what) const;

  const char* (*error_string_)(int) = nullptr;
  int (*comm_init_all_)(Communicator*, int, const int*) = nullptr;
  int (*comm_destroy_)(Communicator) = nullptr;
  int (*all_gather_)(const void*, void*, size_t, int, Communicator, Stream) = nullptr;
  int (*group_start_)() = nullptr;
  int (*group_end_)() = nullptr;
};

}  // namespace bitnet::cuda
