#include "bench_targets.h"

#include "bitnet/core/error.h"
#include "bitnet/kernels/cpu.h"
#include "bitnet/memory/pool.h"
#include "bitnet/memory/trace.h"
#include "bitnet/ops/blas.h"
#include "bitnet/ops/context.h"
#include "bitnet/ops/contraction.h"
#include "bitnet/ops/devices.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"
#include "standard_workload.h"
#include "stopwatch.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include <dlfcn.h>
#include <fmt/format.h>

// Of OpenBLAS, which the library links: the product without anything of ours around it.
extern "C" void cblas_sgemm(int order, int a_transposed, int b_transposed, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);

namespace bitnet::cli {
namespace {

/// Repetitions, of which medians (or minima, where threads start together) are taken.
struct Effort {
  int rounds = 7;
  int64_t largest_matrix = 2048;
};

constexpr int kGpuRounds = 5;

/// The scoreboard, shown as it grows.
class Rows {
 public:
  explicit Rows(const std::function<void(const Json& row)>& show) : show_(show) {}
  void push_back(Json row) {
    show_(row);
    all_.push_back(std::move(row));
  }
  [[nodiscard]] Json take() { return std::move(all_); }

 private:
  const std::function<void(const Json& row)>& show_;
  Json all_ = Json::array();
};

/// One line of the scoreboard. `reached` says it in the unit of `wanted`.
Json row(std::string target, std::string wanted, std::string reached, bool pass) {
  return {{"target", std::move(target)},
          {"wanted", std::move(wanted)},
          {"reached", std::move(reached)},
          {"result", pass ? "pass" : "fail"}};
}

Json not_measured(std::string target, std::string wanted, std::string reason) {
  return {{"target", std::move(target)},
          {"wanted", std::move(wanted)},
          {"reached", std::move(reason)},
          {"result", "not measured"}};
}

void require_close(const Tensor& a, const Tensor& b, double tolerance, std::string_view what) {
  const double difference = max(abs(sub(a, b))).item();
  if (difference <= tolerance) return;
  throw Error(ErrorCode::kInternal, fmt::format("{}: two ways to compute it differ by {}", what, difference));
}

/// Runs body under a context that forces a back end.
template <class Body>
auto with_backend(const char* name, Body&& body) {
  ExecutionContext context = ExecutionContext::current();
  context.backend = name;
  const ContextScope scope(context);
  return body();
}

void add_matmul_rows(Rows& rows, const Effort& effort) {
  for (int64_t n = 64; n <= effort.largest_matrix; n *= 2) {
    const Tensor a = randn(Shape{n, n}, {.seed = 1, .stream = 0}),
                 b = randn(Shape{n, n}, {.seed = 1, .stream = 1});
    Tensor c = empty({n, n});
    constexpr int kRowMajor = 101, kPlain = 111;
    const auto size = static_cast<int>(n);
    const auto blas = [&] {
      cblas_sgemm(kRowMajor, kPlain, kPlain, size, size, size, 1, a.data<float>(), size, b.data<float>(),
                  size, 0, c.data<float>(), size);
    };
    const auto ours = [&] { (void)matmul(a, b); };
    // Both on one thread: what our layer costs, not what threads bring.
    ExecutionContext single = ExecutionContext::current();
    single.threads = 1;
    TwoTimes beside_blas;
    {
      const ContextScope scope(single);
      blas();
      const Tensor naive_result = n <= 512 ? with_backend("scalar", [&] { return matmul(a, b); }) : c;
      // n products of unit variance: sums of some sqrt(n), each rounding at most 2^-24 of it, n of them.
      require_close(matmul(a, b), naive_result,
                    static_cast<double>(n) * std::sqrt(static_cast<double>(n)) * 0x1p-22, "matmul");
      beside_blas = time_in_turns(effort.rounds, ours, blas);
    }
    const double share = beside_blas.baseline / beside_blas.ours;
    rows.push_back(
        row(fmt::format("matmul f32 {} beside OpenBLAS, 1 thread", n), "at least 0.95x",
            fmt::format("{:.2f}x, {:.1f} GFLOP/s", share, 2e-9 * std::pow(n, 3) / beside_blas.ours),
            share >= 0.95));
    const auto naive = [&] { (void)with_backend("scalar", [&] { return matmul(a, b); }); };
    const TwoTimes beside_naive =
        n <= 512 ? time_in_turns(3, ours, naive) : TwoTimes{seconds_of(ours), seconds_of(naive)};
    const double ratio = beside_naive.baseline / beside_naive.ours;
    rows.push_back(row(fmt::format("matmul f32 {} against naive loops, all threads", n), "at least 15x",
                       fmt::format("{:.1f}x", ratio), ratio >= 15));
  }
}

void add_simd_rows(Rows& rows, const Effort& effort) {
  const Tensor x = randn(Shape{4, 4096}, {.seed = 2, .stream = 0}),
               y = randn(Shape{4, 4096}, {.seed = 2, .stream = 1});
  const std::pair<const char*, std::function<Tensor()>> cases[] = {
      {"add", [&] { return add(x, y); }},        {"mul", [&] { return mul(x, y); }},
      {"exp", [&] { return exp(x); }},           {"relu_squared", [&] { return relu_squared(x); }},
      {"silu", [&] { return silu(x); }},         {"sum", [&] { return sum(x); }},
      {"max", [&] { return max(x); }},           {"softmax", [&] { return softmax(x); }},
      {"rms_norm", [&] { return rms_norm(x); }},
  };
  ExecutionContext single = ExecutionContext::current();
  single.threads = 1;
  const ContextScope scope(single);
  ExecutionContext scalar = single;
  scalar.backend = "scalar";
  const auto add_row = [&](std::string_view name, auto&& ours) {
    const auto plainly = [&] {
      const ContextScope plain_scope(scalar);
      ours();
    };
    const TwoTimes times = time_in_turns(effort.rounds, ours, plainly);
    const double ratio = times.baseline / times.ours;
    rows.push_back(row(fmt::format("{} against scalar", name), "at least 5x", fmt::format("{:.1f}x", ratio),
                       ratio >= 5));
  };
  // Additions and products alone outrun the second cache: operands of a quarter are shown too.
  const Tensor step = mul(randn(Shape{4096}, {.seed = 3}), 1e-3),
               sign = where(greater(step, zeros({1})), ones({4096}),
                            full({4096}, -1));  // so that neither overflows
  const std::pair<const char*, std::function<void(Tensor&)>> in_place[] = {
      {"add", [&](Tensor& t) { add_(t, step); }}, {"mul", [&](Tensor& t) { mul_(t, sign); }}};
  for (const auto& entry : in_place) {
    const auto& name = entry.first;
    const auto& compute = entry.second;
    Tensor fast = randn(Shape{4096}, {.seed = 4}), plain = clone(fast);
    compute(fast);
    with_backend("scalar", [&] { compute(plain); });
    require_close(fast, plain, 0, name);
    add_row(fmt::format("{} f32 of 16 KB operands, in place", name), [&] { compute(fast); });
  }
  for (const auto& entry : cases) {
    const auto& name = entry.first;
    const auto& compute = entry.second;
    const Tensor plain = with_backend("scalar", compute), fast = compute();
    require_close(fast, plain, 1e-5 * std::max(1.0, max(abs(plain)).item()), name);
    add_row(fmt::format("{} f32 in cache", name), [&] { (void)compute(); });
  }
}

using Allocate = void* (*)(size_t);
using Free = void (*)(void*);

/// Seconds of one allocation and free of 1 KB on each of so many threads at once.
template <class Pair>
double pair_seconds(int threads, Pair&& pair) {
  constexpr int kPairs = 200000;
  std::vector<double> seconds(static_cast<size_t>(threads));
  std::vector<std::thread> team;
  for (int t = 0; t < threads; ++t) {
    team.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i) pair();
      seconds[static_cast<size_t>(t)] = seconds_of([&] {
                                          for (int i = 0; i < kPairs; ++i) pair();
                                        }) /
                                        kPairs;
    });
  }
  for (std::thread& thread : team) thread.join();
  return *std::max_element(seconds.begin(), seconds.end());
}

template <class Pair>
double best_pair_seconds(int rounds, int threads, Pair&& pair) {
  double best = pair_seconds(threads, pair);
  for (int i = 1; i < rounds; ++i) best = std::min(best, pair_seconds(threads, pair));
  return best;
}

void add_allocation_rows(Rows& rows, const Effort& effort) {
  constexpr size_t kBytes = 1024;
  HybridMemoryPool& pool = HybridMemoryPool::instance();
  const auto touch = [](void* block) { *static_cast<volatile char*>(block) = 1; };
  const auto ours = [&] {
    void* block = pool.allocate_raw(kBytes);
    touch(block);
    pool.deallocate_raw(block, kBytes);
  };
  void* const library = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
  const auto mi_malloc =
      library == nullptr ? nullptr : reinterpret_cast<Allocate>(dlsym(library, "mi_malloc"));
  const auto mi_free = library == nullptr ? nullptr : reinterpret_cast<Free>(dlsym(library, "mi_free"));
  for (const int threads : {1, 2}) {
    const double mine = 1e9 * best_pair_seconds(effort.rounds, threads, ours);
    const double libc = 1e9 * best_pair_seconds(effort.rounds, threads, [&] {
                          void* block = std::malloc(kBytes);
                          touch(block);
                          std::free(block);
                        });
    const std::string target =
        fmt::format("allocate and free 1 KB, {} thread{}", threads, threads == 1 ? "" : "s");
    rows.push_back(
        row(target, "under 50 ns", fmt::format("{:.1f} ns; malloc {:.1f} ns", mine, libc), mine < 50));
    if (mi_malloc == nullptr || mi_free == nullptr) {
      rows.push_back(not_measured(target, "no slower than mimalloc", "libmimalloc.so.2 is not installed"));
      continue;
    }
    const double other = 1e9 * best_pair_seconds(effort.rounds, threads, [&] {
                           void* block = mi_malloc(kBytes);
                           touch(block);
                           mi_free(block);
                         });
    rows.push_back(row(target, "no slower than mimalloc",
                       fmt::format("{:.1f} ns; mimalloc {:.1f} ns", mine, other), mine <= other));
  }
  const TwoTimes zeroed = time_in_turns(
      effort.rounds,
      [&] {
        touch(zeros({32, 32}).bytes());
      },
      [&] {
        void* block = std::malloc(4096);
        std::memset(block, 0, 4096);
        touch(block);
        std::free(block);
      });
  rows.push_back(
      row("zeros [32, 32] f32", "under 100 ns",
          fmt::format("{:.1f} ns; malloc and memset {:.1f} ns", 1e9 * zeroed.ours, 1e9 * zeroed.baseline),
          zeroed.ours < 100e-9));
}

void add_pool_rows(Rows& rows) {
  HybridMemoryPool pool(PoolOptions{.tracking = TrackingLevel::kStandard});
  const ReplayResult result = replay(pool, training_trace());
  rows.push_back(row("pool success after warm-up, training trace", "at least 98 %",
                     fmt::format("{:.2f} %", 100 * result.success_after_warm_up),
                     result.success_after_warm_up >= 0.98));
  rows.push_back(row("bytes held over bytes live at the peak, training trace", "at most 1.05",
                     fmt::format("{:.3f}", result.held_over_live()), result.held_over_live() <= 1.05));
}

void add_gpu_rows(Rows& rows) {
  constexpr const char* kThere = "1 MB from pinned memory to the GPU";
  constexpr const char* kBack = "1 MB from the GPU to pinned memory";
  constexpr const char* kProduct = "matmul f32 2048 on the GPU against the processor, all threads";
  const SelectedDevice gpu = select_device();
  if (is_host(gpu.device)) {
    for (const char* target : {kThere, kBack})
      rows.push_back(not_measured(target, "under 200 us", gpu.reason));
    rows.push_back(not_measured(kProduct, "at least 15x", gpu.reason));
    return;
  }
  constexpr Device kPinned{DeviceType::kPinned, 0};
  constexpr int64_t kSide = 2048;
  const Tensor here = to_device(ones({1 << 18}), kPinned), there = to_device(here, gpu.device);
  const TwoTimes ways = time_in_turns(
      kGpuRounds, [&] { (void)to_device(here, gpu.device); }, [&] { (void)to_device(there, kPinned); });
  rows.push_back(row(kThere, "under 200 us", fmt::format("{:.0f} us", 1e6 * ways.ours), ways.ours < 200e-6));
  rows.push_back(
      row(kBack, "under 200 us", fmt::format("{:.0f} us", 1e6 * ways.baseline), ways.baseline < 200e-6));
  const Tensor a = randn(Shape{kSide, kSide}, {.seed = 3, .stream = 0}),
               b = randn(Shape{kSide, kSide}, {.seed = 3, .stream = 1});
  const Tensor ga = to_device(a, gpu.device), gb = to_device(b, gpu.device);
  // As the processor's products are compared; here for both.
  require_close(to_device(matmul(ga, gb), kCpuDevice), matmul(a, b), 2048 * std::sqrt(2048.0) * 0x1p-22,
                kProduct);
  constexpr int kQueued = 20;  // the transfer of one element back waits for all
  const TwoTimes products = time_in_turns(
      kGpuRounds,
      [&] {
        Tensor c;
        for (int i = 0; i < kQueued; ++i) c = matmul(ga, gb);
        (void)to_device(c.narrow(0, 0, 1).narrow(1, 0, 1), kCpuDevice);
      },
      [&] { (void)matmul(a, b); });
  const double ratio = products.baseline / (products.ours / kQueued);
  rows.push_back(
      row(kProduct, "at least 15x",
          fmt::format("{:.0f}x, {:.1f} TFLOP/s", ratio, 2e-12 * std::pow(kSide, 3) * kQueued / products.ours),
          ratio >= 15));
}

}  // namespace

Json measure_targets(bool quick, const std::function<void(const Json& row)>& show) {
  const Effort effort = quick ? Effort{.rounds = 3, .largest_matrix = 256} : Effort{};
  Rows rows(show);
  add_allocation_rows(rows, effort);
  add_pool_rows(rows);
  add_simd_rows(rows, effort);
  add_matmul_rows(rows, effort);
  add_gpu_rows(rows);
  const double share = measure_tensor_workload()["zero_copy_percent"];
  rows.push_back(row("zero-copy share of a transformer layer's forward pass", "at least 80 %",
                     fmt::format("{:.1f} %", share), share >= 80));
  return rows.take();
}

std::string targets_head() {
  return fmt::format("machine: {}, {} threads; OpenBLAS with kernels for {}\n{:<62} {:<24} {:<38} {}\n",
                     cpu_features().model, ThreadPool::available(), blas_library().kernels, "target",
                     "wanted", "reached", "result");
}

std::string target_line(const Json& row) {
  return fmt::format("{:<62} {:<24} {:<38} {}\n", row["target"].get<std::string>(),
                     row["wanted"].get<std::string>(), row["reached"].get<std::string>(),
                     row["result"].get<std::string>());
}

Json measure_tensor_workload() {
  const StandardWorkload workload;
  (void)workload.forward();
  CopyTracker::reset();
  (void)workload.forward();
  Json json = Json::object(), operations = Json::array();
  for (const CopyTracker::Entry& entry : CopyTracker::per_operation()) {
    operations.push_back({{"operation", entry.operation},
                          {"runs", entry.counts.operations},
                          {"copies", entry.counts.copies},
                          {"copied_bytes", entry.counts.copied_bytes}});
  }
  json["operations"] = std::move(operations);
  json["zero_copy_percent"] = CopyTracker::totals().percentage();
  constexpr int kForwards = 21;
  std::vector<double> seconds;
  for (int i = 0; i < kForwards; ++i) seconds.push_back(seconds_of([&] { (void)workload.forward(); }));
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size() / 2),
                   seconds.end());
  json["forward_seconds"] = seconds[seconds.size() / 2];
  const PoolStats stats = HybridMemoryPool::instance().stats();
  json["pool"] = {{"success_rate", stats.success_rate()},
                  {"peak_live_bytes", stats.peak_live_bytes},
                  {"held_bytes", stats.held_bytes}};
  return json;
}

std::string tensor_table(const Json& json) {
  std::string text =
      fmt::format("{:<16} {:>6} {:>7} {:>14}\n", "operation", "runs", "copies", "copied bytes");
  for (const Json& entry : json["operations"]) {
    text += fmt::format("{:<16} {:>6} {:>7} {:>14}\n", entry["operation"].get<std::string>(),
                        entry["runs"].get<int64_t>(), entry["copies"].get<int64_t>(),
                        entry["copied_bytes"].get<int64_t>());
  }
  text += fmt::format("without a copy: {:.1f} %   forward pass: {:.3f} ms   pool success: {:.2f} %\n",
                      json["zero_copy_percent"].get<double>(), 1e3 * json["forward_seconds"].get<double>(),
                      100 * json["pool"]["success_rate"].get<double>());
  return text;
}

}  // namespace bitnet::cli
