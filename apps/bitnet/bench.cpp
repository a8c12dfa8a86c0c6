#include "bitnet/core/memory.h"
#include "bitnet/core/thread_pool.h"
#include "bitnet/kernels/cpu.h"
#include "commands.h"
#include "errors.h"
#include "interrupt.h"
#include "progress.h"
#include "terminal.h"
#include "text.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kFooter = R"(Examples:
  bitnet bench -m model.gguf
  bitnet bench -m model.gguf -p 128,512 -n 128 -t 1,2,4 -r 5 --json

ppN: N tokens appended at once from position 0 (prefill). tgN: N tokens appended one by one (decode).
A count of 0 leaves a test out.)";

struct BenchOptions {
  std::vector<int64_t> prefill = {512};
  std::vector<int64_t> decode = {128};
  std::vector<int> threads;
  int repeats = 3;
  int warmup = 1;
  std::string kv = "f32";
};

struct BenchTest {
  bool prefill;
  int64_t tokens;
  [[nodiscard]] std::string name() const { return fmt::format("{}{}", prefill ? "pp" : "tg", tokens); }
};

struct BenchRow {
  std::string test;
  int threads = 0;
  double median = 0, min = 0, max = 0;
};

std::vector<BenchTest> tests_of(const BenchOptions& options, int64_t context) {
  std::vector<BenchTest> tests;
  for (const int64_t tokens : options.prefill) tests.push_back({true, tokens});
  for (const int64_t tokens : options.decode) tests.push_back({false, tokens});
  std::erase_if(tests, [](const BenchTest& test) { return test.tokens == 0; });
  for (const BenchTest& test : tests) {
    if (test.tokens <= context) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} does not fit: the model's context is {} tokens", test.name(), context),
                fmt::format("give -p and -n at most {}", context));
  }
  if (tests.empty())
    throw Error(ErrorCode::kInvalidArgument, "both -p and -n are 0: there is nothing to measure");
  return tests;
}

/// Any ids do, as long as they differ: equal tokens would fetch one embedding row from the cache.
std::vector<int32_t> bench_ids(int64_t count, int64_t vocab_size) {
  constexpr int64_t kStride = 7919;  // a prime: the ids wander over the whole vocabulary
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((i + 1) * kStride % vocab_size));
  return ids;
}

double tokens_per_second(Session& session, const BenchTest& test, std::span<const int32_t> ids) {
  session.truncate(0);
  const auto start = std::chrono::steady_clock::now();
  if (test.prefill) {
    session.append(ids);
  } else {
    for (size_t i = 0; i < ids.size(); ++i) {
      throw_if_interrupted();
      session.append(ids.subspan(i, 1));
    }
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return static_cast<double>(test.tokens) / elapsed.count();
}

BenchRow measure(Session& session, const BenchTest& test, const BenchOptions& options) {
  const std::vector<int32_t> ids = bench_ids(test.tokens, session.model().config().vocab_size);
  for (int i = 0; i < options.warmup; ++i) {
    throw_if_interrupted();
    tokens_per_second(session, test, ids);
  }
  std::vector<double> speeds;
  for (int i = 0; i < options.repeats; ++i) {
    throw_if_interrupted();
    speeds.push_back(tokens_per_second(session, test, ids));
  }
  std::sort(speeds.begin(), speeds.end());
  const size_t middle = speeds.size() / 2;
  const double median = speeds.size() % 2 == 1 ? speeds[middle] : (speeds[middle - 1] + speeds[middle]) / 2;
  return {test.name(), session.threads(), median, speeds.front(), speeds.back()};
}

Json describe(const BenchOptions& options, const Model& model, const std::string& isa) {
  const CpuFeatures& cpu = cpu_features();
  return {{"model", model.path().string()},
          {"model_bytes", model.weight_bytes()},
          {"isa", isa},
          {"cpu", cpu.model},
          {"version", BITNET_VERSION},
          {"build", BITNET_BUILD_TYPE},
          {"kv", options.kv},
          {"repeats", options.repeats},
          {"warmup", options.warmup}};
}

std::string table(const Json& json) {
  std::string text =
      fmt::format("{}, {} kernels, {}\n", escape_controls(json["model"].get<std::string>()),
                  json["isa"].get<std::string>(), escape_controls(json["cpu"].get<std::string>())) +
      fmt::format("{:<10} {:>7} {:>16} {:>12} {:>12}\n", "test", "threads", "tokens/s median", "min", "max");
  for (const Json& row : json["rows"]) {
    const Json& speed = row["tokens_per_second"];
    text += fmt::format("{:<10} {:>7} {:>16.2f} {:>12.2f} {:>12.2f}\n", row["test"].get<std::string>(),
                        row["threads"].get<int>(), speed["median"].get<double>(), speed["min"].get<double>(),
                        speed["max"].get<double>());
  }
  return text + fmt::format("weights {}, peak memory {}\n", format_bytes(json["model_bytes"]),
                            format_bytes(json["peak_memory_bytes"]));
}

int bench(const BenchOptions& options, const CommonOptions& common) {
  const InterruptScope interrupt_scope;
  const auto model = load_model(common);
  const std::vector<BenchTest> tests = tests_of(options, model->config().max_position);
  std::vector<int> thread_counts = options.threads;
  if (thread_counts.empty()) thread_counts.push_back(ThreadPool::available());
  CacheOptions cache{.context = 0, .kv = options.kv};
  for (const BenchTest& test : tests) cache.context = std::max(cache.context, test.tokens);
  Json rows = Json::array();
  std::string isa;
  for (const int threads : thread_counts) {
    CommonOptions with_threads = common;
    with_threads.threads = threads;
    Session session = open_session(model, with_threads, cache);
    isa = session.isa();
    for (const BenchTest& test : tests) {
      const BenchRow row = measure(session, test, options);
      rows.push_back({{"test", row.test},
                      {"threads", row.threads},
                      {"tokens_per_second", {{"median", row.median}, {"min", row.min}, {"max", row.max}}}});
    }
  }
  Json json = describe(options, *model, isa);
  json["rows"] = rows;
  json["peak_memory_bytes"] = process_memory().peak_resident_bytes;
  if (common.json) {
    print_json(json);
  } else {
    write_out(table(json));
  }
  return kExitOk;
}

}  // namespace

void add_bench_command(CLI::App& app, Program& program) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App& command = add_command(app, program, "bench", "Measure speed and memory", options, &bench);
  command.footer(kFooter);
  add_model_option(command, program.common);
  add_isa_option(command, program.common);
  constexpr int64_t kMostTokens = int64_t{1} << 24;
  command.add_option("-p,--prefill", options->prefill, "Prompt lengths to measure")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{0}, kMostTokens))
      ->type_name("N,...")
      ->capture_default_str();
  command.add_option("-n,--decode", options->decode, "Counts of generated tokens to measure")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{0}, kMostTokens))
      ->type_name("N,...")
      ->capture_default_str();
  command.add_option("-t,--threads", options->threads, "Thread counts to measure (default: all available)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->type_name("N,...");
  command.add_option("-r,--repeats", options->repeats, "Measurements of each test")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command.add_option("--warmup", options->warmup, "Runs before each measurement that do not count")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  command.add_option("--kv", options->kv, "Type of the KV cache")
      ->check(CLI::IsMember({"f32", "f16", "i8"}))
      ->capture_default_str();
}

}  // namespace bitnet::cli
