#pragma once

#include "bench_options.h"
#include "common_options.h"
#include "terminal.h"

namespace bitnet::cli {

/// How long it takes until the model can be used, from files in the page cache ("warm") and from files that
/// the system was told to forget ("cold"; left out, with a warning, where it does not forget them). A list of
/// {"state", "threads", "load_seconds", "first_token_seconds", "peak_memory_bytes"}: load_seconds is
/// Model::load and a session; first_token_seconds is a new process of this program, from its start to the
/// first text of `bitnet run` after a prompt of 16 tokens, and peak_memory_bytes is that process's. The model
/// must not be mapped by this process: mapped pages are never forgotten.
[[nodiscard]] Json measure_startup(const BenchOptions& options, const CommonOptions& common, int threads);

}  // namespace bitnet::cli
