#pragma once

#include "bitnet/inference/session.h"
#include "inference/runner.h"

#include <memory>
#include <string_view>
#include <vector>

namespace bitnet {

/// The runner that options.device names (SessionOptions). Throws kInvalidArgument on another name,
/// kUnsupported if a GPU is asked for and none can be used, with the reason; "auto" then logs it and takes
/// the processor.
[[nodiscard]] std::unique_ptr<Runner> make_runner(const Model::Impl& model, const SessionOptions& options,
                                                  int64_t context);

/// The GPUs of "cuda:N" or "cuda:N,M,..."; 0 of "cuda" and "auto". Throws kInvalidArgument on another name,
/// or one in which a GPU stands twice.
[[nodiscard]] std::vector<int> cuda_indices(std::string_view name);

}  // namespace bitnet
