#pragma once

// One stream per GPU, on which every tensor operation of the process runs: a block that a tensor gives back
// to the pool may be handed out again while the kernel that read it still runs, because its next user queues
// up behind that kernel.

#include "bitnet/core/device.h"
#include "kernels/cuda_tensor_table.h"

namespace bitnet {

/// Makes the GPU the calling thread's and returns its stream. Throws kDevice if there is none of that number.
[[nodiscard]] cuda::Stream use_gpu(Device device);

}  // namespace bitnet
