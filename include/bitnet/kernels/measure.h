#pragma once

#include "bitnet/core/dtype.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// What this machine can do at most, measured: the two walls that a forward pass runs into.
struct MachineBound {
  int threads = 0;
  double read_bytes_per_second = 0;  ///< reading memory, all threads together
  double int8_macs_per_second = 0;   ///< multiplications of int8 with accumulation, all threads together
  std::string int8_instruction;      ///< what reaches it, e.g. "vpdpbusd zmm"
};

/// Measures with `threads` threads at once (0: all available): the fastest of several ways and passes of
/// reading `buffer_bytes` bytes that the threads wrote themselves (0: four times the last-level cache, at
/// least 256 MiB, at most a quarter of the memory), and of running the best int8 dot product of kernel table
/// `isa`
/// ("" = as select_kernels) on registers. Sums are checked: kInternal if one is wrong. Throws kUnsupported
/// for an unknown isa.
[[nodiscard]] MachineBound measure_machine(int threads, std::string_view isa = {}, int64_t buffer_bytes = 0);

/// The shapes that a model gives to the kernels.
struct KernelShapes {
  int64_t hidden = 0, intermediate = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  DType head = DType::kF16;                                 ///< type of the head's matrix
  DType kv = DType::kF32;                                   ///< type of the KV cache
  bool relu2 = true;                                        ///< ReLU^2, else SiLU
  std::vector<int64_t> tokens = {1, 2, 4, 8, 16, 64, 512};  ///< rows of the ternary products
  std::vector<int64_t> lengths = {4096};                    ///< cached tokens of attention
  /// Weights that pass by before one comes again: as many as the model has, or more than the caches hold.
  int64_t cold_bytes = int64_t{512} << 20;
};

/// One kernel at one shape. Operations count a multiplication and an addition as two; bytes are those of
/// weights (matrices), keys and values (attention) or rows in and out (the others). Either may be 0: not
/// meaningful.
struct KernelSpeed {
  std::string kernel, shape;
  int64_t tokens = 1;
  double seconds = 0;  ///< median of one call
  double operations = 0, bytes = 0;
};

/// Times every kernel of table `isa` at these shapes with `threads` threads (rows of a matrix, or tokens,
/// split over them). Each result is compared with the
/// scalar table first, on a part of the rows: kInternal if one bit differs.
[[nodiscard]] std::vector<KernelSpeed> measure_kernels(const KernelShapes& shapes, int threads,
                                                       std::string_view isa = {});

}  // namespace bitnet
