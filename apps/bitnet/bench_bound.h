#pragma once

#include "bench_speed.h"
#include "bitnet/kernels/measure.h"

namespace bitnet::cli {

/// What a test asks of the machine at least: the weights read from memory once for each batch of tokens, each
/// sequence's keys and values for each token, and the multiplications of the ternary layers.
struct BenchWork {
  double bytes = 0, int8_macs = 0;
};
[[nodiscard]] BenchWork work_of(const BenchTest& test, const Engine& engine, const Sequence& sequence);

/// {"threads", "int8_instruction", "read_bytes_per_second": {"before", "after"}, "int8_macs_per_second":
/// same}
[[nodiscard]] Json describe_bound(const MachineBound& before, const MachineBound& after);

/// Adds "bound": {"by": "read" or "int8", "tokens_per_second", "share"} to a row of measure_speed, from the
/// means of `machine` (describe_bound).
void add_bound(Json& row, const BenchTest& test, const BenchWork& work, const Json& machine);

/// Every kernel of the table that the options choose, at the model's shapes: a list of
/// {"kernel", "shape", "tokens", "threads", "seconds", "gop_per_second", "gb_per_second"}.
[[nodiscard]] Json measure_kernel_rows(const Model& model, const BenchOptions& options, int threads,
                                       const std::string& isa);
/// The same of the GPU's products, with "bound": {"by": "read" or "int8", "share"}; the last two are the
/// walls themselves.
[[nodiscard]] Json measure_cuda_kernel_rows(const Model& model, const BenchOptions& options,
                                            const std::string& device);

}  // namespace bitnet::cli
