#include "bench_bound.h"
#include "bench_compare.h"
#include "bench_history.h"
#include "bench_options.h"
#include "bench_speed.h"
#include "bench_startup.h"
#include "bench_table.h"
#include "bench_targets.h"
#include "bitnet/core/error.h"
#include "bitnet/core/memory.h"
#include "bitnet/core/thread_pool.h"
#include "bitnet/kernels/cpu.h"
#include "commands.h"
#include "errors.h"
#include "interrupt.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace bitnet::cli {
namespace {

constexpr const char* kBenchFooter = R"(Examples:
  bitnet bench -m model.gguf
  bitnet bench -m model.gguf -p 128,512 -n 128 -t 1,2,4 -r 5 --roofline --json > today.json
  bitnet bench -m model.gguf -p 0 -n 64 --depth 0,1024,3500 --kv f16
  bitnet bench -m model.gguf -p 0 -n 64 --sequences 1,2,4,8
  bitnet bench -m model.gguf -p 0 -n 0 --startup --kernels
  bitnet bench -m model.gguf --compare today.json --threshold 3
  bitnet bench targets

ppN: N tokens appended at once from position 0 (prefill). tgN: N tokens appended one by one (decode);
tgN@D: after D others; tgNxS: in S sequences at once, tokens of all counted. A count of 0 leaves a test out.)";

/// All tests with one number of threads; adds to json["rows"] and, with --roofline, to json["roofline"].
void bench_threads(const std::shared_ptr<const Model>& model, const std::vector<BenchTest>& tests,
                   int threads, const BenchOptions& options, CommonOptions common, Json& json) {
  common.threads = threads;
  CacheOptions cache{.context = 1, .kv = options.kv, .exact_head = options.exact_head};
  int64_t most_sequences = 1;
  for (const BenchTest& test : tests) {
    cache.context = std::max(cache.context, test.tokens + test.depth);
    most_sequences = std::max(most_sequences, test.sequences);
  }
  MachineBound before;
  if (options.roofline) before = measure_machine(threads, common.isa);
  Engine engine = open_engine(model, common, cache);
  std::vector<Sequence> sequences;
  for (int64_t i = 0; i < most_sequences; ++i) sequences.push_back(engine.sequence());
  json["isa"] = engine.isa();
  json["layout"] = to_string(engine.model().layout());
  Json rows = Json::array();
  for (const BenchTest& test : tests) rows.push_back(measure_speed(engine, sequences, test, options));
  json["resident_bytes"] =
      std::max(json.value("resident_bytes", int64_t{0}), process_memory().resident_bytes);
  if (options.roofline) {
    const Json machine = describe_bound(before, measure_machine(threads, common.isa));
    for (size_t i = 0; i < tests.size(); ++i)
      add_bound(rows[i], tests[i], work_of(tests[i], engine, sequences.front()), machine);
    json["roofline"].push_back(machine);
  }
  for (Json& row : rows) json["rows"].push_back(std::move(row));
}

Json describe(const BenchOptions& options, const Model& model) {
  return {{"model", model.path().string()},
          {"model_bytes", model.weight_bytes()},
          {"isa", ""},
          {"cpu", cpu_features().model},
          {"version", BITNET_VERSION},
          {"build", BITNET_BUILD_TYPE},
          {"kv", options.kv},
          {"exact_head", options.exact_head},
          {"repeats", options.repeats},
          {"warmup", options.warmup},
          {"rows", Json::array()}};
}

/// Before anything is measured, so that a mistake in a file costs no time.
std::vector<Json> read_earlier(const BenchOptions& options) {
  if (options.threshold && options.compare.empty() && options.history.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "--threshold needs --compare or --history");
  }
  if (!options.compare.empty()) return {read_bench(options.compare)};
  return options.history.empty() ? std::vector<Json>() : read_history(options.history);
}

/// Adds "comparison" where there is something to compare with, and the run to its history.
void compare_with(const std::vector<Json>& earlier, const BenchOptions& options, Json& json) {
  constexpr double kThreshold = 5;  // percent
  const double threshold = options.threshold.value_or(kThreshold);
  if (!options.compare.empty()) {
    json["comparison"] = compare_benches(measured_in(earlier.front()), json, options.compare, threshold);
  }
  if (options.history.empty()) return;
  const Json run = json;
  const Baseline baseline = baseline_of(earlier, json);
  append_history(options.history, run);  // a slow run too: it happened
  if (baseline.runs == 0) return;
  json["comparison"] = compare_benches(baseline.medians, json, options.history, threshold);
  json["comparison"]["runs"] = baseline.runs;
}

int bench(const BenchOptions& options, const CommonOptions& common) {
  const InterruptScope interrupt_scope;
  std::vector<int> thread_counts = options.threads;
  if (thread_counts.empty()) thread_counts.push_back(ThreadPool::available());
  const std::vector<Json> earlier = read_earlier(options);
  Json startup = Json::array();
  if (options.startup) {
    for (const int threads : thread_counts) {
      for (Json& row : measure_startup(options, common, threads)) startup.push_back(std::move(row));
    }
  }
  const auto model = load_model(common);
  const std::vector<BenchTest> tests = bench_tests(options, model->config().max_position);
  if (tests.empty() && !options.startup && !options.roofline && !options.kernels)
    throw Error(ErrorCode::kInvalidArgument, "both -p and -n are 0: there is nothing to measure");
  Json json = describe(options, *model);
  for (const int threads : thread_counts) bench_threads(model, tests, threads, options, common, json);
  if (options.startup) json["startup"] = std::move(startup);
  if (options.kernels) {
    json["kernels"] = Json::array();
    const bool on_gpu = json["isa"] == "cuda";
    if (on_gpu) json["kernels"] = measure_cuda_kernel_rows(*model, options, common.device);
    for (const int threads : on_gpu ? std::vector<int>() : thread_counts) {
      for (Json& row : measure_kernel_rows(*model, options, threads, common.isa))
        json["kernels"].push_back(std::move(row));
    }
  }
  json["peak_memory_bytes"] = process_memory().peak_resident_bytes;
  compare_with(earlier, options, json);
  if (common.json) {
    print_json(json);
  } else {
    write_out(bench_table(json));
  }
  return json.contains("comparison") && json["comparison"]["slower"] > 0 ? kExitSlower : kExitOk;
}

struct TensorBenchOptions {};
struct TargetOptions {
  bool quick = false;
};

int bench_tensor(const TensorBenchOptions& /*options*/, const CommonOptions& common) {
  const Json json = measure_tensor_workload();
  if (common.json) {
    print_json(json);
  } else {
    write_out(tensor_table(json));
  }
  return kExitOk;
}

/// A goal that is missed is a finding, not a failure: the exit code stays 0.
int bench_targets(const TargetOptions& options, const CommonOptions& common) {
  if (!common.json) {
    write_out(targets_head());
    (void)measure_targets(options.quick, [](const Json& row) { write_out(target_line(row)); });
    return kExitOk;
  }
  const Json rows = measure_targets(options.quick, [](const Json&) {});
  print_json({{"cpu", cpu_features().model},
              {"threads", ThreadPool::available()},
              {"version", BITNET_VERSION},
              {"build", BITNET_BUILD_TYPE},
              {"targets", rows}});
  return kExitOk;
}

constexpr int64_t kMostTokens = int64_t{1} << 24;

void add_list_option(Command command, const char* name, std::vector<int64_t>& list, const char* text) {
  command.add_option(name, list, text)
      .separator(',')
      .between(0, kMostTokens)
      .type_name("N,...")
      .show_default();
}

void add_run_options(Command command, BenchOptions& options) {
  command.add_option("-t,--threads", options.threads, "Thread counts to measure (default: all available)")
      .separator(',')
      .between(1, 1024)
      .type_name("N,...");
  command.add_option("-r,--repeats", options.repeats, "Measurements of each test")
      .between(1, 1000)
      .show_default();
  command.add_option("--warmup", options.warmup, "Runs before each measurement that do not count")
      .between(0, 1000)
      .show_default();
  command.add_option("--kv", options.kv, "Type of the KV cache").one_of({"f32", "f16", "i8"}).show_default();
}

}  // namespace

void add_bench_command(Command app, Program& program) {
  auto options = std::make_shared<BenchOptions>();
  const Command command = add_command(app, program, "bench", "Measure speed and memory", options, &bench);
  command.footer(kBenchFooter);
  const Command tensor =
      add_command(command, program, "tensor", "Run a transformer layer on general tensors and count copies",
                  std::make_shared<TensorBenchOptions>(), &bench_tensor);
  auto target_options = std::make_shared<TargetOptions>();
  const Command targets =
      add_command(command, program, "targets", "Measure the tensor core's goals, each beside its baseline",
                  target_options, &bench_targets);
  targets.add_flag("--quick", target_options->quick, "Matrices up to 256 only, fewer repetitions");
  command.when_chosen([&program, options, tensor, targets] {
    if (tensor.chosen() || targets.chosen()) return;  // theirs is the action
    program.action = [&program, options] { return bench(*options, program.common); };
  });
  add_model_option(command, program.common);
  add_isa_option(command, program.common);
  add_weight_options(command, program.common);
  add_device_option(command, program.common);
  add_list_option(command, "-p,--prefill", options->prefill, "Prompt lengths to measure");
  add_list_option(command, "-n,--decode", options->decode, "Counts of generated tokens to measure");
  add_list_option(command, "--depth", options->depths, "Tokens in the cache before decoding");
  command.add_option("--sequences", options->sequences, "Sequences to decode at once")
      .separator(',')
      .between(1, 1024)
      .type_name("N,...")
      .show_default();
  command.add_option("--fill-by", options->fill_by, "How the cache is filled up to the depth")
      .one_of({"batch", "token"})
      .show_default();
  add_run_options(command, *options);
  command.add_flag("--sample", options->sample,
                   "Decode what the default sampler draws, as generating does, instead of given tokens");
  command.add_flag("--exact-head", options->exact_head, "Compute all logits instead of the best: slower");
  command.add_flag("--startup", options->startup,
                   "Time loading and the first token, with the files in the page cache and without");
  command.add_flag("--roofline", options->roofline,
                   "Measure memory and int8 speed before and after, and show each test's share of the bound");
  command.add_flag("--kernels", options->kernels, "Time every kernel at the model's shapes");
  const Option compare =
      command.add_option("--compare", options->compare, "Compare with an earlier --json").type_name("FILE");
  command
      .add_option("--history", options->history,
                  "Compare with the median of the last ten runs like this one in a file, and add this one")
      .type_name("FILE")
      .excludes(compare);
  command
      .add_option("--threshold", options->threshold,
                  "Slower by more than this many percent (default: 5) is the exit code 5")
      .between_reals(0.0, 100.0)
      .type_name("PERCENT");
}

}  // namespace bitnet::cli
