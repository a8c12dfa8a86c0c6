#pragma once

#include "arguments.h"
#include "bitnet/inference/engine.h"
#include "bitnet/inference/session.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace bitnet::cli {

/// Options that several commands share; each command adds the groups that mean something to it.
struct CommonOptions {
  bool json = false;
  bool verbose = false;
  std::string model;  ///< as named with -m; empty: see find_model
  int threads = 0;
  std::string isa;
  bool no_sparse = false;
  std::string layout = "auto";
  std::string weights_cache;
  std::string device = "cpu";
};

/// --json and --verbose: every command.
void add_output_options(Command command, CommonOptions& common);
/// -m
Option add_model_option(Command command, CommonOptions& common);
/// -t
void add_threads_option(Command command, CommonOptions& common);
/// --isa
void add_isa_option(Command command, CommonOptions& common);

/// --no-sparse, --layout and --weights-cache
void add_weight_options(Command command, CommonOptions& common);

/// --device
void add_device_option(Command command, CommonOptions& common);

/// --context and --kv: commands that open one session.
struct CacheOptions {
  int64_t context = 0;
  std::string kv = "f32";
  bool exact_head = false;
};
void add_cache_options(Command command, CacheOptions& cache);

/// Turns the library's log to standard error on, if --verbose was given.
void start_logging(const CommonOptions& common);

/// The model to use: the one named, else the environment's BITNET_MODEL, else the bundled one: beside the
/// installed program (../share/bitnet/models), else in the source tree. Throws kNotFound if there is none.
[[nodiscard]] std::filesystem::path find_model(const CommonOptions& common);
/// Where the bundled model lies, or an empty path.
[[nodiscard]] std::filesystem::path bundled_model();

/// What these options say about loading.
[[nodiscard]] LoadOptions load_options(const CommonOptions& common);
/// find_model() loaded, with a progress bar.
[[nodiscard]] std::shared_ptr<const Model> load_model(const CommonOptions& common);
[[nodiscard]] SessionOptions session_options(const CommonOptions& common, const CacheOptions& cache = {});
[[nodiscard]] Session open_session(std::shared_ptr<const Model> model, const CommonOptions& common,
                                   const CacheOptions& cache = {});
[[nodiscard]] Engine open_engine(std::shared_ptr<const Model> model, const CommonOptions& common,
                                 const CacheOptions& cache);

}  // namespace bitnet::cli
