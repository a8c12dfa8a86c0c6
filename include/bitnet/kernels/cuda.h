#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bitnet {

/// A GPU that this build can use.
struct CudaDevice {
  int index = 0;  ///< N of "cuda:N"
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  int64_t total_bytes = 0, l2_bytes = 0;
  std::vector<int> reaches;  ///< indices of the GPUs whose memory this one can read and write
};

struct CudaDevices {
  std::vector<CudaDevice> devices;
  std::string reason;  ///< why there are none; empty if there are
};

/// The GPUs of this machine of compute capability 8.0 or newer. Never throws for lack of one; the driver is
/// looked for only here, not at process start.
[[nodiscard]] CudaDevices cuda_devices();

}  // namespace bitnet
