#include "bench_startup.h"

#include "bench_speed.h"
#include "errors.h"
#include "interrupt.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace bitnet::cli {
namespace {

constexpr int64_t kPromptTokens = 16;
constexpr double kForgottenShare = 0.02;  // of a file's pages may stay, held by somebody else

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() { reset(); }
  [[nodiscard]] int get() const { return fd_; }
  void reset() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

/// The share of the file's pages that is in memory.
double cached_share(int fd, size_t size) {
  void* const address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return 1;
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((size + page - 1) / page, 1);
  ::mincore(address, size, pages.data());
  ::munmap(address, size);
  size_t cached = 0;
  for (const unsigned char state : pages) cached += state & 1u;
  return static_cast<double>(cached) / static_cast<double>(pages.size());
}

/// Asks the system to drop the file from its cache; whether it did.
bool forget_file(const std::filesystem::path& path) {
  const auto size = std::filesystem::file_size(path);
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0 || size == 0) return size == 0;
  ::fsync(file.get());  // pages that are not yet written cannot be dropped
  ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  return cached_share(file.get(), size) <= kForgottenShare;
}

bool forget_model(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return forget_file(path);
  bool forgotten = true;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.is_regular_file()) forgotten = forget_file(entry.path()) && forgotten;
  }
  return forgotten;
}

struct Loaded {
  double seconds = 0;
  int64_t vocab_size = 0;
};

Loaded time_load(const std::filesystem::path& path, const CommonOptions& common, const std::string& kv) {
  const auto start = std::chrono::steady_clock::now();
  const auto model = Model::load(path, load_options(common));
  const Session session = open_session(model, common, {.context = 0, .kv = kv});
  return {seconds_since(start), model->config().vocab_size};
}

struct FirstToken {
  double seconds = 0;
  int64_t peak_memory_bytes = 0;
};

pid_t start_program(std::vector<std::string> arguments, int out) {
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = -1;
  const int failed = ::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw Error(ErrorCode::kIo, "bench --startup: this program cannot be started once more");
  return child;
}

FirstToken time_first_token(const std::vector<std::string>& arguments) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw Error(ErrorCode::kIo, "bench --startup: no pipe can be had");
  const FileDescriptor in(ends[0]);
  FileDescriptor out(ends[1]);
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = start_program(arguments, out.get());
  out.reset();
  char byte = 0;
  const ssize_t got = ::read(in.get(), &byte, 1);
  const double seconds = seconds_since(start);
  while (::read(in.get(), &byte, 1) > 0) {  // the rest of the text, so that the child can write it
  }
  int status = 0;
  rusage usage{};
  ::wait4(child, &status, 0, &usage);
  throw_if_interrupted();
  if (got != 1 || status != 0) {
    throw Error(ErrorCode::kIo, "bench --startup: `bitnet run` of the same model failed",
                "run it by hand to see why: bitnet run --ids 1,2,3 -n 1");
  }
  return {seconds, int64_t{usage.ru_maxrss} * 1024};
}

std::vector<std::string> run_arguments(const std::filesystem::path& path, const BenchOptions& options,
                                       const CommonOptions& common, int64_t vocab_size) {
  std::vector<std::string> arguments = {
      "bitnet",       "run",      "-m",
      path.string(),  "--ids",    fmt::format("{}", fmt::join(bench_ids(kPromptTokens, vocab_size), ",")),
      "-n",           "1",        "--greedy",
      "--ignore-eos", "-t",       std::to_string(common.threads),
      "--kv",         options.kv, "--device",
      common.device,  "--layout", common.layout};
  if (!common.isa.empty()) arguments.insert(arguments.end(), {"--isa", common.isa});
  if (!common.weights_cache.empty())
    arguments.insert(arguments.end(), {"--weights-cache", common.weights_cache});
  if (common.no_sparse) arguments.push_back("--no-sparse");
  if (options.exact_head) arguments.push_back("--exact-head");
  return arguments;
}

}  // namespace

Json measure_startup(const BenchOptions& options, const CommonOptions& common, int threads) {
  CommonOptions with_threads = common;
  with_threads.threads = threads;
  const std::filesystem::path path = find_model(common);
  const Loaded first = time_load(path, with_threads, options.kv);  // so that the files are in the cache
  const std::vector<std::string> arguments = run_arguments(path, options, with_threads, first.vocab_size);
  const auto forget = [&] {
    return forget_model(path) && (common.weights_cache.empty() || forget_file(common.weights_cache));
  };
  Json rows = Json::array();
  for (const bool warm : {true, false}) {
    std::vector<double> loads, tokens;
    int64_t peak = 0;
    bool forgotten = true;
    for (int i = 0; i < options.repeats; ++i) {
      throw_if_interrupted();
      if (!warm) forgotten = forget() && forgotten;
      loads.push_back(time_load(path, with_threads, options.kv).seconds);
      if (!warm) forgotten = forget() && forgotten;
      const FirstToken token = time_first_token(arguments);
      tokens.push_back(token.seconds);
      peak = std::max(peak, token.peak_memory_bytes);
    }
    if (!forgotten) {
      print_warning("the system keeps the model's files in its cache: no cold start was measured");
      continue;
    }
    rows.push_back({{"state", warm ? "warm" : "cold"},
                    {"threads", threads},
                    {"load_seconds", spread_of(loads)},
                    {"first_token_seconds", spread_of(tokens)},
                    {"peak_memory_bytes", peak}});
  }
  return rows;
}

}  // namespace bitnet::cli
