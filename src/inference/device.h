#pragma once

#include "bitnet/inference/session.h"
#include "inference/runner.h"

#include <memory>
#include <string_view>

namespace bitnet {

/// The runner that options.device names (SessionOptions). Throws kInvalidArgument on another name,
/// kUnsupported if a GPU is asked for and none can be used, with the reason; "auto" then logs it and takes
/// the processor.
[[nodiscard]] std::unique_ptr<Runner> make_runner(const Model::Impl& model, const SessionOptions& options,
                                                  int64_t context);

/// N of "cuda:N"; 0 of "cuda" and "auto". Throws kInvalidArgument on another name.
[[nodiscard]] int cuda_index(std::string_view name);

}  // namespace bitnet
