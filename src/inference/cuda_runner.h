#pragma once

#include "bitnet/inference/session.h"
#include "inference/runner.h"

#include <memory>

namespace bitnet {

/// On GPU `device`. `context` and options.batch must be checked; the model must outlive the runner.
[[nodiscard]] std::unique_ptr<Runner> make_cuda_runner(const Model::Impl& model,
                                                       const SessionOptions& options, int64_t context,
                                                       int device);

}  // namespace bitnet
