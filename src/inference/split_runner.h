#pragma once

#include "bitnet/inference/session.h"
#include "inference/runner.h"

#include <memory>
#include <span>

namespace bitnet::cuda {

/// Several GPUs that compute a model together, each a share of every matrix (docs/adr/0010); share i is on
/// devices[i].
[[nodiscard]] std::unique_ptr<Runner> make_split_runner(const Model::Impl& model,
                                                        const SessionOptions& options, int64_t context,
                                                        std::span<const int> devices);

}  // namespace bitnet::cuda
