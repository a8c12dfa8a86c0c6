#include "inference/device.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/kernels/cuda.h"
#include "inference/cpu_runner.h"
#include "inference/cuda_model.h"
#include "inference/cuda_runner.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr std::string_view kCuda = "cuda";

/// Why GPU `index` cannot run the model; empty if it can.
std::string cuda_reason(const Model::Impl& model, int index) {
  const CudaDevices found = cuda_devices();
  if (found.devices.empty()) return found.reason;
  const bool exists = std::any_of(found.devices.begin(), found.devices.end(),
                                  [&](const CudaDevice& device) { return device.index == index; });
  if (!exists) return fmt::format("there is no GPU {} of compute capability 8.0 or newer", index);
  return cuda::unsupported_reason(model);
}

/// Why "auto" takes the processor; empty if it takes GPU 0.
std::string auto_reason(const Model::Impl& model, const SessionOptions& options) {
  if (!options.isa.empty()) return fmt::format("the processor's kernels '{}' are asked for", options.isa);
  return cuda_reason(model, 0);
}

}  // namespace

int cuda_index(std::string_view name) {
  if (name == kCuda || name == "auto") return 0;
  int index = -1;
  if (name.starts_with(kCuda) && name[kCuda.size()] == ':') {
    std::string_view rest = name.substr(kCuda.size());
    rest.remove_prefix(1);
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), index);
    if (error != std::errc() || end != rest.data() + rest.size()) index = -1;
  }
  if (index < 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("'{}' names no device", name),
                "use cpu, auto, cuda or cuda:N");
  }
  return index;
}

std::unique_ptr<Runner> make_runner(const Model::Impl& model, const SessionOptions& options,
                                    int64_t context) {
  const std::string& name = options.device;
  if (name == "cpu") return make_cpu_runner(model, options, context);
  if (name == "auto") {
    const std::string reason = auto_reason(model, options);
    if (reason.empty()) return make_cuda_runner(model, options, context, 0);
    log_message(LogLevel::kInfo, fmt::format("device auto: the processor, because {}", reason));
    return make_cpu_runner(model, options, context);
  }
  const int index = cuda_index(name);
  if (!options.isa.empty()) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("the kernels '{}' are the processor's, but the device is '{}'", options.isa, name),
        "leave one of the two out");
  }
  const std::string reason = cuda_reason(model, index);
  if (!reason.empty()) {
    throw Error(ErrorCode::kUnsupported, fmt::format("cannot run on '{}': {}", name, reason),
                "use --device cpu or auto; `bitnet info` lists the GPUs");
  }
  return make_cuda_runner(model, options, context, index);
}

}  // namespace bitnet
