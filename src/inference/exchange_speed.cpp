#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/core/thread_pool.h"
#include "bitnet/inference/cuda_speed.h"
#include "bitnet/kernels/cuda.h"
#include "inference/device.h"
#include "inference/exchange.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace cuda {
namespace {

constexpr int64_t kLayers = 32;  // of a pass
constexpr int kRounds = 9;

/// The rows of one GPU.
struct Side {
  Side(int index, int64_t tokens, const ModelConfig& config)
      : device((table().use_device(index), index)),
        rows{Rows(tokens, config.q_size()), Rows(tokens, config.hidden_size),
             Rows(tokens, config.intermediate_size)} {}

  struct Rows {
    Rows(int64_t count, int64_t width)
        : stride((width + kPad - 1) / kPad * kPad),
          elements(static_cast<size_t>(count * stride) * sizeof(float)) {}
    int64_t stride;
    DeviceBuffer elements;
  };
  [[nodiscard]] ExchangePlace place() const {
    SharedVectors vectors{};
    for (size_t i = 0; i < rows.size(); ++i) vectors[i] = {rows[i].elements.as<float>(), rows[i].stride};
    return {device, vectors};
  }

  int device;
  std::array<Rows, 3> rows;
  OwnedStream stream;
  OwnedGraph graph;
};

class ExchangeSpeed {
 public:
  ExchangeSpeed(const KernelShapes& shapes, std::span<const int> devices)
      : pool_(static_cast<int>(devices.size())) {
    config_.vocab_size = shapes.vocab;
    config_.hidden_size = shapes.hidden;
    config_.intermediate_size = shapes.intermediate;
    config_.num_layers = kLayers;
    config_.num_heads = shapes.heads;
    config_.num_kv_heads = shapes.kv_heads;
    config_.head_dim = shapes.head_dim;
    const std::string reason = split_reason(config_, static_cast<int>(devices.size()));
    if (!reason.empty()) throw Error(ErrorCode::kUnsupported, reason, "name fewer GPUs");
    tokens_ = shapes.tokens;
    most_ = *std::max_element(tokens_.begin(), tokens_.end());
    for (const int device : devices) {
      sides_.push_back(std::make_unique<Side>(device, most_, config_));
      places_.push_back(sides_.back()->place());
    }
  }

  [[nodiscard]] bool all_reach() const {
    for (const ExchangePlace& a : places_) {
      for (const ExchangePlace& b : places_) {
        if (a.device != b.device && !table().can_reach(a.device, b.device)) return false;
      }
    }
    return true;
  }
  void measure_peers(std::vector<KernelSpeed>& out) { measure(make_peer_exchanges(config_, places_), out); }
  void measure_nccl(std::vector<KernelSpeed>& out) {
    measure(make_nccl_exchanges(config_, places_, most_), out);
  }

 private:
  void measure(std::vector<std::unique_ptr<Exchange>> exchanges, std::vector<KernelSpeed>& out) {
    for (const Shared which : {Shared::kHidden, Shared::kFfn}) {
      const PartBegins begins = part_begins(config_, which, static_cast<int>(sides_.size()));
      const int64_t width = begins[sides_.size()];
      for (const int64_t tokens : tokens_) {
        record(exchanges, which, tokens);
        check(which, tokens, begins);
        std::vector<double> seconds(kRounds);
        for (double& each : seconds) each = run();
        std::nth_element(seconds.begin(), seconds.begin() + kRounds / 2, seconds.end());
        out.push_back({.kernel = fmt::format("exchange {}", exchanges.front()->name()),
                       .shape = std::to_string(width),
                       .tokens = tokens,
                       .seconds = seconds[kRounds / 2] / static_cast<double>(Exchange::kGathers * kLayers),
                       .operations = 0,
                       .bytes = static_cast<double>(tokens * (width - begins[1])) * sizeof(float)});
      }
    }
    for (const auto& side : sides_) side->graph.reset(nullptr);  // before the exchange ends
  }

  template <class Body>
  void for_each_side(Body&& body) {
    pool_.run([&](int worker, int workers) {
      for (size_t rank = static_cast<size_t>(worker); rank < sides_.size();
           rank += static_cast<size_t>(workers)) {
        table().use_device(sides_[rank]->device);
        body(rank, *sides_[rank]);
      }
    });
  }
  void record(std::span<const std::unique_ptr<Exchange>> exchanges, Shared which, int64_t tokens) {
    for_each_side([&](size_t rank, Side& side) {
      table().begin_capture(side.stream.get());
      exchanges[rank]->begin(side.stream.get());
      for (int64_t i = 0; i < Exchange::kGathers * kLayers; ++i)
        exchanges[rank]->gather(which, tokens, side.stream.get());
      side.graph.reset(table().end_capture(side.stream.get()));
    });
  }
  double run() {
    const auto start = std::chrono::steady_clock::now();
    for_each_side([&](size_t, Side& side) { table().launch_graph(side.graph.get(), side.stream.get()); });
    for_each_side([&](size_t, Side& side) { table().synchronize(side.stream.get()); });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  static float element(int64_t token, int64_t i) {
    return static_cast<float>(token * 31 % 1024 * 4096 + i % 4096);
  }

  /// Each side has its part, and must have the whole afterwards.
  void check(Shared which, int64_t tokens, const PartBegins& begins) {
    const int64_t width = begins[sides_.size()],
                  stride = places_.front().vectors[static_cast<size_t>(which)].stride;
    std::vector<float> whole(static_cast<size_t>(tokens * stride));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < width; ++i) whole[static_cast<size_t>(t * stride + i)] = element(t, i);
    }
    const size_t bytes = whole.size() * sizeof(float);
    for_each_side([&](size_t rank, Side& side) {
      std::vector<float> part(whole.size());
      for (int64_t t = 0; t < tokens; ++t) {
        const auto row = static_cast<std::ptrdiff_t>(t * stride);
        std::copy(whole.begin() + row + begins[rank], whole.begin() + row + begins[rank + 1],
                  part.begin() + row + begins[rank]);
      }
      table().to_device(rows(side, which), part.data(), bytes, side.stream.get());
      table().synchronize(side.stream.get());
    });
    (void)run();
    for_each_side([&](size_t, Side& side) {
      std::vector<float> found(whole.size());
      table().to_host(found.data(), rows(side, which), bytes, side.stream.get());
      table().synchronize(side.stream.get());
      if (found == whole) return;
      throw Error(ErrorCode::kInternal,
                  fmt::format("measure_cuda_exchanges: rows on cuda:{} are wrong", side.device),
                  "please report this, with the output of bitnet info");
    });
  }
  [[nodiscard]] static float* rows(const Side& side, Shared which) {
    return side.rows[static_cast<size_t>(which)].elements.as<float>();
  }

  ModelConfig config_;
  ThreadPool pool_;
  std::vector<int64_t> tokens_;
  int64_t most_ = 0;
  std::vector<std::unique_ptr<Side>> sides_;
  std::vector<ExchangePlace> places_;
};

}  // namespace
}  // namespace cuda

std::vector<KernelSpeed> measure_cuda_exchanges(const KernelShapes& shapes, std::string_view device) {
  const std::vector<int> devices = cuda_indices(device);
  const CudaDevices gpus = cuda_devices();
  for (const int index : devices) {
    const bool exists = std::any_of(gpus.devices.begin(), gpus.devices.end(),
                                    [&](const CudaDevice& gpu) { return gpu.index == index; });
    if (exists) continue;
    throw Error(ErrorCode::kUnsupported,
                fmt::format("cannot measure '{}': {}", device,
                            gpus.reason.empty() ? fmt::format("there is no GPU {}", index) : gpus.reason),
                "`bitnet info` lists the GPUs");
  }
  cuda::ExchangeSpeed speed(shapes, devices);
  std::vector<KernelSpeed> out;
  if (speed.all_reach()) {
    speed.measure_peers(out);
  } else {
    log_message(LogLevel::kInfo, "no exchange through each other's memory: not all GPUs reach it");
  }
  try {
    speed.measure_nccl(out);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kBackend) throw;
    log_message(LogLevel::kInfo, fmt::format("no exchange through NCCL: {}", error.what()));
  }
  return out;
}

}  // namespace bitnet
