#include "inference/device.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/kernels/cuda.h"
#include "inference/cpu_runner.h"
#include "inference/cuda_model.h"
#include "inference/cuda_runner.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <string_view>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr std::string_view kCuda = "cuda";
constexpr std::array kFirstGpu{0};

/// Why these GPUs cannot run the model; empty if they can.
std::string cuda_reason(const Model::Impl& model, std::span<const int> indices) {
  const CudaDevices found = cuda_devices();
  if (found.devices.empty()) return found.reason;
  for (const int index : indices) {
    const bool exists = std::any_of(found.devices.begin(), found.devices.end(),
                                    [&](const CudaDevice& device) { return device.index == index; });
    if (!exists) return fmt::format("there is no GPU {} of compute capability 8.0 or newer", index);
  }
  std::string reason = cuda::unsupported_reason(model);
  if (!reason.empty() || indices.size() == 1) return reason;
  return cuda::split_reason(model.checkpoint.config(), static_cast<int>(indices.size()));
}

/// Of "N" or "N,M,..."; empty if it is none.
std::vector<int> indices_of(std::string_view list) {
  std::vector<int> indices;
  const char* const end = list.data() + list.size();
  for (const char* at = list.data();; ++at) {
    int index = -1;
    const auto [next, error] = std::from_chars(at, end, index);
    if (error != std::errc() || index < 0 || (next != end && *next != ',')) return {};
    indices.push_back(index);
    if (next == end) return indices;
    at = next;
  }
}

/// Why "auto" takes the processor; empty if it takes GPU 0.
std::string auto_reason(const Model::Impl& model, const SessionOptions& options) {
  if (!options.isa.empty()) return fmt::format("the processor's kernels '{}' are asked for", options.isa);
  return cuda_reason(model, kFirstGpu);
}

}  // namespace

std::vector<int> cuda_indices(std::string_view name) {
  if (name == kCuda || name == "auto") return {0};
  std::vector<int> indices;
  if (name.starts_with(kCuda) && name[kCuda.size()] == ':')
    indices = indices_of(name.substr(kCuda.size() + 1));
  if (indices.empty()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("'{}' names no device", name),
                "use cpu, auto, cuda, cuda:N, or several GPUs as cuda:N,M");
  }
  for (auto index = indices.begin(); index != indices.end(); ++index) {
    if (std::find(indices.begin(), index, *index) != index) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("'{}' names GPU {} twice", name, *index),
                  "name each GPU once");
    }
  }
  return indices;
}

std::unique_ptr<Runner> make_runner(const Model::Impl& model, const SessionOptions& options,
                                    int64_t context) {
  const std::string& name = options.device;
  if (name == "cpu") return make_cpu_runner(model, options, context);
  if (name == "auto") {
    const std::string reason = auto_reason(model, options);
    if (reason.empty()) return make_cuda_runner(model, options, context, kFirstGpu);
    log_message(LogLevel::kInfo, fmt::format("device auto: the processor, because {}", reason));
    return make_cpu_runner(model, options, context);
  }
  const std::vector<int> indices = cuda_indices(name);
  if (!options.isa.empty()) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("the kernels '{}' are the processor's, but the device is '{}'", options.isa, name),
        "leave one of the two out");
  }
  const std::string reason = cuda_reason(model, indices);
  if (!reason.empty()) {
    throw Error(ErrorCode::kUnsupported, fmt::format("cannot run on '{}': {}", name, reason),
                "use --device cpu or auto; `bitnet info` lists the GPUs");
  }
  return make_cuda_runner(model, options, context, indices);
}

}  // namespace bitnet
