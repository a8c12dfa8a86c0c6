#pragma once

// One stream per GPU, on which every tensor operation of the process runs: a block that a tensor gives back
// to the pool may be handed out again while the kernel that read it still runs, because its next user queues
// up behind that kernel.

#include "bitnet/core/device.h"
#include "bitnet/ops/context.h"
#include "kernels/cuda_tensor_table.h"

namespace bitnet {

/// Makes the GPU the calling thread's and returns its stream. Throws kDevice if there is none of that number.
[[nodiscard]] cuda::Stream use_gpu(Device device);

/// A GPU's stream for the length of a scope, in the order of the stream that the context names, if any:
/// behind what was queued there before, ahead of what is queued there after the scope.
class GpuTurn {
 public:
  explicit GpuTurn(Device device, const ExecutionContext& context = ExecutionContext::current());
  ~GpuTurn();
  GpuTurn(const GpuTurn&) = delete;
  GpuTurn& operator=(const GpuTurn&) = delete;
  [[nodiscard]] cuda::Stream stream() const { return stream_; }

 private:
  cuda::Stream stream_, callers_;
};

}  // namespace bitnet
