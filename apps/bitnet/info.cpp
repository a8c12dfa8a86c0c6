#include "bitnet/core/thread_pool.h"
#include "bitnet/kernels/cpu.h"
#include "bitnet/kernels/cuda.h"
#include "bitnet/ops/blas.h"
#include "commands.h"
#include "errors.h"
#include "terminal.h"
#include "text.h"

#include <array>
#include <fstream>
#include <memory>
#include <string>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kInfoFooter = R"(Examples:
  bitnet info
  bitnet info --isa scalar --json)";

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "gcc " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

struct InfoOptions {};

/// Times of the kernels that were close, in microseconds; an empty object where features decide.
Json measured_to_json() {
  Json json = Json::object();
  for (const MeasuredIsa& isa : measured_isas()) json[std::string(isa.name)] = isa.seconds * 1e6;
  return json;
}

/// Times of both layouts of whole matrices with all threads, in microseconds; null where there is one only.
Json layouts_to_json(const CommonOptions& common) {
  const auto measured = measured_layouts(common.isa);
  if (!measured.has_value()) return {};
  return {{"t2x16", measured->t2x16 * 1e6}, {"t53x16", measured->t53x16 * 1e6}};
}

std::string layouts_line(const CommonOptions& common) {
  const auto measured = measured_layouts(common.isa);
  if (!measured.has_value()) return {};
  return fmt::format("layout     {} (t2x16 {:.1f} ms, t53x16 {:.1f} ms)\n",
                     measured->t53x16_pays ? "t53x16" : "t2x16", measured->t2x16 * 1e3,
                     measured->t53x16 * 1e3);
}

/// MemTotal and MemAvailable of the machine, in bytes; 0 where the system does not say.
struct MachineMemory {
  int64_t total = 0, available = 0;
};

MachineMemory machine_memory() {
  MachineMemory memory;
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  int64_t kib = 0;
  while (file >> key >> kib && std::getline(file, unit)) {
    if (key == "MemTotal:") memory.total = kib * 1024;
    if (key == "MemAvailable:") memory.available = kib * 1024;
  }
  return memory;
}

Json features_to_json(const CpuFeatures& cpu) {
  return {{"avx2", cpu.avx2},
          {"avx_vnni", cpu.avx_vnni},
          {"avx512", cpu.avx512},
          {"avx512_vnni", cpu.avx512_vnni},
          {"avx512_vbmi", cpu.avx512_vbmi},
          {"amx_int8", cpu.amx_int8},
          {"neon", cpu.neon},
          {"neon_dotprod", cpu.neon_dotprod},
          {"neon_i8mm", cpu.neon_i8mm}};
}

Json gpus_to_json(const CudaDevices& found) {
  Json gpus = Json::array();
  for (const CudaDevice& gpu : found.devices) {
    gpus.push_back({{"device", fmt::format("cuda:{}", gpu.index)},
                    {"name", gpu.name},
                    {"compute_capability", fmt::format("{}.{}", gpu.compute_major, gpu.compute_minor)},
                    {"multiprocessors", gpu.multiprocessors},
                    {"total_bytes", gpu.total_bytes},
                    {"l2_bytes", gpu.l2_bytes},
                    {"reaches", gpu.reaches}});
  }
  return gpus;
}

/// Whose memory the GPU can read and write, where there are others.
std::string describe_reach(const CudaDevice& gpu, size_t gpus) {
  if (gpus == 1) return {};
  if (gpu.reaches.empty()) return "; reaches no other GPU";
  return fmt::format("; reaches cuda:{}", fmt::join(gpu.reaches, ", cuda:"));
}

/// A line for each GPU, or one that says why there is none.
std::string describe_gpus(const CudaDevices& found) {
  if (found.devices.empty()) return fmt::format("gpu        none: {}\n", found.reason);
  std::string text;
  for (const CudaDevice& gpu : found.devices) {
    text += fmt::format("gpu        cuda:{}: {}, compute capability {}.{}, {}{}\n", gpu.index,
                        escape_controls(gpu.name), gpu.compute_major, gpu.compute_minor,
                        format_bytes(gpu.total_bytes), describe_reach(gpu, found.devices.size()));
  }
  return text;
}

Json blas_to_json() {
  const BlasLibrary& blas = blas_library();
  return {{"config", blas.config},
          {"kernels", blas.kernels},
          {"concurrent", blas.concurrent},
          {"advice", blas.advice}};
}

Json to_json(const CommonOptions& common) {
  const CpuFeatures& cpu = cpu_features();
  const MachineMemory memory = machine_memory();
  const std::string bundled = bundled_model().string();
  return {{"version", BITNET_VERSION},
          {"build", {{"compiler", kCompiler}, {"type", BITNET_BUILD_TYPE}}},
          {"cpu", {{"vendor", cpu.vendor}, {"model", cpu.model}, {"features", features_to_json(cpu)}}},
          {"isas", available_isas()},
          {"isa", chosen_isa(common.isa)},
          {"isa_measured_us", measured_to_json()},
          {"layout_measured_us", layouts_to_json(common)},
          {"gpus", gpus_to_json(cuda_devices())},
          {"blas", blas_to_json()},
          {"threads", ThreadPool::available()},
          {"memory", {{"total_bytes", memory.total}, {"available_bytes", memory.available}}},
          {"bundled_model", bundled.empty() ? Json() : Json(bundled)}};
}

std::string measured_line() {
  std::string times;
  for (const MeasuredIsa& isa : measured_isas())
    times += fmt::format("{}{} {:.0f} us", times.empty() ? "" : ", ", isa.name, isa.seconds * 1e6);
  return times.empty() ? times : fmt::format("measured   {}\n", times);
}

int info(const InfoOptions&, const CommonOptions& common) {
  const Json json = to_json(common);
  if (common.json) {
    print_json(json);
    return kExitOk;
  }
  const CpuFeatures& cpu = cpu_features();
  std::string features;
  for (const auto& [name, present] : json["cpu"]["features"].items()) {
    if (present.get<bool>()) features += (features.empty() ? "" : " ") + name;
  }
  const std::string bundled = bundled_model().string();
  write_out(fmt::format("bitnet     {}\n", BITNET_VERSION) +
            fmt::format("build      {}, {}\n", kCompiler, BITNET_BUILD_TYPE) +
            fmt::format("cpu        {} ({})\n", escape_controls(cpu.model), escape_controls(cpu.vendor)) +
            fmt::format("features   {}\n", features) +
            fmt::format("kernels    {} (available: {})\n", json["isa"].get<std::string>(),
                        fmt::join(available_isas(), ", ")) +
            measured_line() + layouts_line(common) + fmt::format("threads    {}\n", ThreadPool::available()) +
            describe_gpus(cuda_devices()) +
            fmt::format("blas       OpenBLAS with kernels for {}{}{}\n", blas_library().kernels,
                        blas_library().advice.empty() ? "" : "; ", blas_library().advice) +
            fmt::format("memory     {} of {} available\n", format_bytes(json["memory"]["available_bytes"]),
                        format_bytes(json["memory"]["total_bytes"])) +
            fmt::format("model      {}\n", bundled.empty() ? "none bundled" : escape_controls(bundled)));
  return kExitOk;
}

}  // namespace

void add_info_command(Command app, Program& program) {
  const Command command =
      add_command(app, program, "info", "Show the machine, the build and the kernels chosen",
                  std::make_shared<InfoOptions>(), &info);
  command.footer(kInfoFooter);
  add_isa_option(command, program.common);
}

}  // namespace bitnet::cli
