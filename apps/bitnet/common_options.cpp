#include "common_options.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "progress.h"
#include "terminal.h"
#include "text.h"

#include <cstdlib>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

namespace bitnet::cli {
namespace {

constexpr const char* kBundledName = "storyteller.gguf";
// More than any machine has; a typing error such as 10000 is caught before it starts that many threads.
constexpr int kMostThreads = 1024;
constexpr int64_t kLongestContext = int64_t{1} << 24;

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
    case LogLevel::kOff:
      break;
  }
  return "log";
}

}  // namespace

void add_output_options(Command command, CommonOptions& common) {
  command.add_flag("--json", common.json, "Print JSON on standard output");
  command.add_flag("--verbose", common.verbose, "Show the library's log on standard error");
}

Option add_model_option(Command command, CommonOptions& common) {
  return command
      .add_option("-m,--model", common.model,
                  "A .gguf file or Hugging Face folder (default: $BITNET_MODEL, else the bundled model)")
      .type_name("MODEL");
}

void add_threads_option(Command command, CommonOptions& common) {
  command.add_option("-t,--threads", common.threads, "Threads (0: all available)")
      .between(0, kMostThreads)
      .type_name("N");
}

void add_isa_option(Command command, CommonOptions& common) {
  command
      .add_option("--isa", common.isa,
                  "Kernels to use, see `bitnet info` (default: $BITNET_ISA, else the best here)")
      .type_name("NAME");
}

void add_weight_options(Command command, CommonOptions& common) {
  command.add_flag("--no-sparse", common.no_sparse,
                   "Compute what closed squared-ReLU gates would let be left out (same results, slower)");
  command
      .add_option("--layout", common.layout,
                  "Weights in memory: 2 bits (t2x16), 1.67 (t53x16), or what is faster here (same results)")
      .one_of({"auto", "t2x16", "t53x16"})
      .type_name("NAME")
      .show_default();
  command
      .add_option("--weights-cache", common.weights_cache,
                  "Keep the weights here as the processor reads them: later starts are faster (GPUs make no "
                  "use of it)")
      .type_name("FILE");
}

void add_device_option(Command command, CommonOptions& common) {
  command
      .add_option("--device", common.device,
                  "Where to compute: cpu, cuda, cuda:N, cuda:N,M,... (several GPUs share the model), or "
                  "auto: the first "
                  "GPU if it can, unless --isa is given")
      .type_name("NAME")
      .show_default();
}

void add_cache_options(Command command, CacheOptions& cache) {
  command.add_option("--context", cache.context, "Tokens that the KV cache holds (0: the model's context)")
      .between(0, kLongestContext)
      .type_name("N");
  command.add_option("--kv", cache.kv, "Type of the KV cache")
      .one_of({"f32", "f16", "i8"})
      .type_name("TYPE")
      .show_default();
}

void start_logging(const CommonOptions& common) {
  if (!common.verbose) return;
  set_log_callback(
      [](LogLevel level, std::string_view message) {
        write_err(fmt::format("bitnet: {}: {}\n", level_name(level), escape_controls(message)));
      },
      LogLevel::kDebug);
}

std::filesystem::path bundled_model() {
  std::error_code ignored;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const std::filesystem::path candidates[] = {
      program.parent_path().parent_path() / "share" / "bitnet" / "models" / kBundledName,
      std::filesystem::path(BITNET_SOURCE_MODELS_DIR) / kBundledName};
  for (const auto& candidate : candidates) {
    if (std::filesystem::exists(candidate, ignored)) return candidate;
  }
  return {};
}

std::filesystem::path find_model(const CommonOptions& common) {
  if (!common.model.empty()) return common.model;
  const char* named = std::getenv("BITNET_MODEL");
  if (named != nullptr && named[0] != '\0') return named;
  std::filesystem::path bundled = bundled_model();
  if (bundled.empty()) {
    throw Error(ErrorCode::kNotFound, "no model was named and the bundled one is not installed",
                "name one with -m MODEL or in the environment's BITNET_MODEL");
  }
  return bundled;
}

LoadOptions load_options(const CommonOptions& common) {
  LoadOptions options;
  options.threads = common.threads;
  options.sparse = !common.no_sparse;
  options.isa = common.isa;
  if (common.layout == "t2x16") options.layout = TernaryLayout::kBlocks;
  if (common.layout == "t53x16") options.layout = TernaryLayout::kTight;
  options.weights_cache = common.weights_cache;
  options.defer_layout = common.device != "cpu";
  return options;
}

std::shared_ptr<const Model> load_model(const CommonOptions& common) {
  Progress progress("loading");
  LoadOptions options = load_options(common);
  options.progress = progress.callback();
  return Model::load(find_model(common), options);
}

SessionOptions session_options(const CommonOptions& common, const CacheOptions& cache) {
  SessionOptions options;
  options.threads = common.threads;
  options.isa = common.isa;
  options.device = common.device;
  options.context = cache.context;
  options.kv_type = *dtype_from_name(cache.kv);
  options.exact_head = cache.exact_head;
  return options;
}

namespace {

/// A Session or Engine, whose beginning may take as long as loading.
template <class T>
T open_runner(std::shared_ptr<const Model> model, const CommonOptions& common, const CacheOptions& cache) {
  Progress progress("loading");
  SessionOptions options = session_options(common, cache);
  options.progress = progress.callback();
  return T(std::move(model), options);
}

}  // namespace

Session open_session(std::shared_ptr<const Model> model, const CommonOptions& common,
                     const CacheOptions& cache) {
  return open_runner<Session>(std::move(model), common, cache);
}

Engine open_engine(std::shared_ptr<const Model> model, const CommonOptions& common,
                   const CacheOptions& cache) {
  return open_runner<Engine>(std::move(model), common, cache);
}

}  // namespace bitnet::cli
