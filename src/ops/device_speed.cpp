#include "bitnet/core/error.h"
#include "bitnet/memory/pool.h"
#include "bitnet/ops/contraction.h"
#include "bitnet/ops/devices.h"
#include "bitnet/ops/metrics.h"
#include "bitnet/tensor/create.h"
#include "ops/gpu_stream.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <mutex>

namespace bitnet {
namespace {

constexpr int64_t kSide = 1024;                      // of the matrices
constexpr int64_t kCopied = int64_t{64} << 20;       // elements: beyond every cache
constexpr int64_t kTransferred = int64_t{64} << 20;  // bytes
constexpr int kRuns = 5;
constexpr int kPerRun = 4;

/// Least seconds of one call among a few runs of several, each waited for.
template <class Call>
double seconds_of(cuda::Stream stream, Call&& call) {
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run <= kRuns; ++run) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kPerRun; ++i) call();
    cuda::table().synchronize(stream);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (run > 0) best = std::min(best, taken.count() / kPerRun);  // the first warms up
  }
  return best;
}

DeviceSpeed measure_gpu(Device device) {
  register_gpu_memory();
  const cuda::Stream stream = use_gpu(device);
  DeviceSpeed speed;
  {
    Tensor from = zeros({kCopied}, DType::kF32, device), to = zeros({kCopied}, DType::kF32, device);
    const cuda::ElementArgs copy{.function = cuda::ElementFunction::kCopy,
                                 .ndim = 1,
                                 .shape = {kCopied},
                                 .count = kCopied,
                                 .out = {to.bytes(), DType::kF32, {1}},
                                 .in = {{from.bytes(), DType::kF32, {1}}, {}}};
    const double seconds = seconds_of(stream, [&] { cuda::tensor_table().element(copy, stream); });
    speed.memory_bytes_per_second = 2.0 * static_cast<double>(from.nbytes()) / seconds;
  }
  {
    Tensor a = zeros({kSide, kSide}, DType::kF32, device), b = a,
           c = empty({kSide, kSide}, DType::kF32, device);
    const cuda::MatmulArgs product{.dtype = DType::kF32,
                                   .m = kSide,
                                   .n = kSide,
                                   .k = kSide,
                                   .batch = 1,
                                   .a = a.bytes(),
                                   .b = b.bytes(),
                                   .c = c.bytes(),
                                   .a_transposed = false,
                                   .b_transposed = false,
                                   .a_row = kSide,
                                   .b_row = kSide,
                                   .c_row = kSide,
                                   .a_batch = 0,
                                   .b_batch = 0,
                                   .c_batch = 0};
    const double seconds = seconds_of(stream, [&] { cuda::tensor_table().matmul(product, stream); });
    speed.matmul_operations_per_second = 2.0 * kSide * kSide * kSide / seconds;
  }
  {
    Tensor there = empty({kTransferred}, DType::kU8, device);
    const auto here =
        HybridMemoryPool::instance({DeviceType::kPinned, 0}).allocate_typed<std::byte>(kTransferred);
    const double up = seconds_of(
        stream, [&] { cuda::table().to_device(there.bytes(), here.data(), kTransferred, stream); });
    const double down =
        seconds_of(stream, [&] { cuda::table().to_host(here.data(), there.bytes(), kTransferred, stream); });
    speed.to_device_bytes_per_second = kTransferred / up;
    speed.to_host_bytes_per_second = kTransferred / down;
  }
  return speed;
}

DeviceSpeed measure_processor() {
  const Tensor a = ones({kSide, kSide});
  double seconds = std::numeric_limits<double>::infinity();
  for (int run = 0; run <= kRuns; ++run) {
    const auto start = std::chrono::steady_clock::now();
    (void)matmul(a, a);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    seconds = std::min(seconds, taken.count());
  }
  return {.memory_bytes_per_second = measured_roofline().memory_bytes_per_second,
          .matmul_operations_per_second = 2.0 * kSide * kSide * kSide / seconds};
}

}  // namespace

const DeviceSpeed& device_speed(Device device) {
  static std::mutex lock;
  static std::map<int, DeviceSpeed> known;
  const std::lock_guard guard(lock);
  const int key = is_host(device) ? -1 : device.index;
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  if (!is_host(device)) (void)device_info(device);  // throws if it is not there
  return known.emplace(key, is_host(device) ? measure_processor() : measure_gpu(device)).first->second;
}

}  // namespace bitnet
