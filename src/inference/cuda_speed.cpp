#include "bitnet/inference/cuda_speed.h"

#include "bitnet/core/error.h"
#include "bitnet/kernels/cuda.h"
#include "inference/cuda_memory.h"
#include "inference/device.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace cuda {
namespace {

constexpr int kMeasurements = 7;
constexpr double kShortest = 2e-3;  // of a measurement: the graph's launch does not show
constexpr int64_t kGroupRows = 16;

/// Chooses the GPU, the first of several, or throws with the reason.
void use(std::string_view device) {
  const int index = cuda_indices(device).front();
  const CudaDevices found = cuda_devices();
  const bool exists = std::any_of(found.devices.begin(), found.devices.end(),
                                  [&](const CudaDevice& each) { return each.index == index; });
  if (!exists) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("cannot measure '{}': {}", device,
                            found.reason.empty() ? "there is no such GPU" : found.reason),
                "use --device cpu; `bitnet info` lists the GPUs");
  }
  table().use_device(index);
}

double run_seconds(Graph graph, Stream stream) {
  const auto start = std::chrono::steady_clock::now();
  table().launch_graph(graph, stream);
  table().synchronize(stream);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds of call(i, stream), i = 0, 1, ..., in one graph: the median of some measurements.
double time_calls(const std::function<void(int64_t, Stream)>& call) {
  const OwnedStream stream;
  for (int64_t calls = 16;; calls *= 4) {
    table().begin_capture(stream.get());
    for (int64_t i = 0; i < calls; ++i) call(i, stream.get());
    OwnedGraph graph;
    graph.reset(table().end_capture(stream.get()));
    (void)run_seconds(graph.get(), stream.get());
    if (run_seconds(graph.get(), stream.get()) < kShortest && calls < 4096) continue;
    std::vector<double> seconds(kMeasurements);
    for (double& each : seconds) each = run_seconds(graph.get(), stream.get()) / static_cast<double>(calls);
    std::nth_element(seconds.begin(), seconds.begin() + kMeasurements / 2, seconds.end());
    return seconds[kMeasurements / 2];
  }
}

template <class T>
DeviceBuffer on_device(const std::vector<T>& values) {
  DeviceBuffer buffer(values.size() * sizeof(T));
  const OwnedStream stream;
  table().to_device(buffer.data(), values.data(), buffer.bytes(), stream.get());
  table().synchronize(stream.get());
  return buffer;
}

std::vector<float> on_host(const DeviceBuffer& buffer) {
  std::vector<float> values(buffer.bytes() / sizeof(float));
  const OwnedStream stream;
  table().to_host(values.data(), buffer.data(), buffer.bytes(), stream.get());
  table().synchronize(stream.get());
  return values;
}

/// Codes 0, 1, 2 in the shares 1/4, 1/2, 1/4.
std::vector<uint32_t> random_tiles(std::mt19937& random, int64_t words) {
  std::vector<uint32_t> tiles(static_cast<size_t>(words));
  for (uint32_t& word : tiles) {
    const uint32_t one = static_cast<uint32_t>(random()) & 0x55555555u;
    word = one | (static_cast<uint32_t>(random()) & 0x55555555u & ~one) << 1;
  }
  return tiles;
}

/// A matrix with copies of its weights, and operands for up to `tokens` tokens.
struct Product {
  Product(int64_t matrix_rows, int64_t matrix_cols, int64_t tokens, int64_t cold_bytes)
      : rows(matrix_rows),
        cols(matrix_cols),
        k_tiles((cols + kPad - 1) / kPad),
        groups((rows + kGroupRows - 1) / kGroupRows) {
    std::mt19937 random(1);
    const std::vector<uint32_t> words = random_tiles(random, groups * k_tiles * kPad);
    const auto bytes = static_cast<int64_t>(words.size() * sizeof(uint32_t));
    for (int64_t i = 0; i < cold_bytes / bytes + 1; ++i) tiles.push_back(on_device(words));
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> values(static_cast<size_t>(tokens * stride()));
    for (int64_t i = 0; i < tokens * stride(); ++i)
      values[static_cast<size_t>(i)] = i % stride() < cols ? uniform(random) : 0.0f;
    x = on_device(values);
    norm = on_device(std::vector<float>(static_cast<size_t>(stride()), 1.0f));
    row_scale = on_device(std::vector<float>(static_cast<size_t>(groups * kGroupRows), 0.75f));
    const int64_t image_rows = (tokens + kImageTokens - 1) / kImageTokens * kImageTokens;
    q = on_device(std::vector<int8_t>(static_cast<size_t>(image_rows * stride())));
    scale = on_device(std::vector<float>(static_cast<size_t>(tokens)));
    sum = on_device(std::vector<int32_t>(static_cast<size_t>(tokens)));
    y = on_device(std::vector<float>(static_cast<size_t>(tokens * rows)));
  }

  [[nodiscard]] int64_t stride() const { return k_tiles * kPad; }
  [[nodiscard]] TernaryWeights weights(int64_t call) const {
    return {.tiles = tiles[static_cast<size_t>(call) % tiles.size()].data(),
            .row_scale = row_scale.as<float>(),
            .groups = groups,
            .k_tiles = k_tiles,
            .outputs = rows};
  }
  [[nodiscard]] Norms norms() const { return {.first = norm.as<float>(), .first_eps = 1e-5f}; }
  void quantize(int64_t tokens, bool image, Stream stream) const {
    table().quantize({.x = x.as<float>(),
                      .x_stride = stride(),
                      .tokens = tokens,
                      .cols = cols,
                      .norms = norms(),
                      .q = q.as<int8_t>(),
                      .q_stride = stride(),
                      .scale = scale.as<float>(),
                      .sum = sum.as<int32_t>(),
                      .image = image},
                     stream);
  }
  [[nodiscard]] GemmArgs gemm(int64_t tokens, int64_t call, bool image) const {
    return {.weights = weights(call),
            .tokens = tokens,
            .q = q.as<int8_t>(),
            .q_stride = stride(),
            .scale = scale.as<float>(),
            .sum = sum.as<int32_t>(),
            .epilogue = Epilogue::kStore,
            .y = y.as<float>(),
            .y_stride = rows,
            .image = image};
  }
  void run(int64_t tokens, int64_t call, Stream stream) const {
    if (tokens == 1) {
      table().ternary_gemv({.x = x.as<float>(),
                            .cols = cols,
                            .norms = norms(),
                            .weights = weights(call),
                            .epilogue = Epilogue::kStore,
                            .y = y.as<float>()},
                           stream);
    } else {
      table().ternary_gemm(gemm(tokens, call, table().gemm_takes_image(tokens)), stream);
    }
  }

  int64_t rows, cols, k_tiles, groups;
  std::vector<DeviceBuffer> tiles;
  DeviceBuffer x, norm, row_scale, q, scale, sum, y;
};

void check_product(const Product& product, int64_t tokens, const std::string& shape) {
  const OwnedStream stream;
  product.quantize(tokens, false, stream.get());
  table().naive_ternary(product.gemm(tokens, 0, false), stream.get());
  table().synchronize(stream.get());
  const std::vector<float> expected = on_host(product.y);
  table().clear(product.y.data(), product.y.bytes(), stream.get());
  product.quantize(tokens, table().gemm_takes_image(tokens), stream.get());
  product.run(tokens, 0, stream.get());
  table().synchronize(stream.get());
  const std::vector<float> found = on_host(product.y);
  const auto count = static_cast<size_t>(tokens * product.rows) * sizeof(float);
  if (std::memcmp(found.data(), expected.data(), count) == 0) return;
  throw Error(ErrorCode::kInternal,
              fmt::format("measure_cuda_kernels: the product {} of {} tokens differs from the naive kernel's",
                          shape, tokens),
              "please report this, with the output of bitnet info");
}

void measure_product(int64_t rows, int64_t cols, const KernelShapes& shapes, std::vector<KernelSpeed>& out) {
  const int64_t most = *std::max_element(shapes.tokens.begin(), shapes.tokens.end());
  const Product product(rows, cols, most, shapes.cold_bytes);
  const std::string shape = fmt::format("{} x {}", rows, cols);
  const auto weight_bytes = static_cast<double>(product.tiles.front().bytes());
  for (const int64_t tokens : shapes.tokens) {
    check_product(product, tokens, shape);
    const double seconds =
        time_calls([&](int64_t call, Stream stream) { product.run(tokens, call, stream); });
    out.push_back({.kernel = tokens == 1 ? "cuda ternary_gemv" : "cuda ternary_gemm",
                   .shape = shape,
                   .tokens = tokens,
                   .seconds = seconds,
                   .operations = 2.0 * static_cast<double>(rows) * static_cast<double>(cols) *
                                 static_cast<double>(tokens),
                   .bytes = weight_bytes});
    if (tokens == 1) continue;
    const bool image = table().gemm_takes_image(tokens);
    out.push_back(
        {.kernel = "cuda quantize",
         .shape = std::to_string(cols),
         .tokens = tokens,
         .seconds = time_calls([&](int64_t, Stream stream) { product.quantize(tokens, image, stream); }),
         .operations = 0,
         .bytes = 5.0 * static_cast<double>(cols * tokens)});
  }
}

}  // namespace
}  // namespace cuda

CudaBound measure_cuda_bound(std::string_view device) {
  cuda::use(device);
  constexpr size_t kBytes = size_t{1} << 30;  // far more than any L2
  const cuda::DeviceBuffer memory(kBytes), word(sizeof(uint32_t));
  const cuda::OwnedStream stream;
  cuda::table().clear(memory.data(), kBytes, stream.get());
  cuda::table().synchronize(stream.get());
  double operations = 0;
  const double read = cuda::time_calls([&](int64_t, cuda::Stream each) {
    cuda::table().read_memory(memory.data(), kBytes, word.as<uint32_t>(), each);
  });
  const double product = cuda::time_calls(
      [&](int64_t, cuda::Stream each) { operations = cuda::table().int8_peak(word.as<uint32_t>(), each); });
  return {static_cast<double>(kBytes) / read, operations / product};
}

std::vector<KernelSpeed> measure_cuda_kernels(const KernelShapes& shapes, std::string_view device) {
  cuda::use(device);
  const int64_t q_size = shapes.heads * shapes.head_dim, kv_size = shapes.kv_heads * shapes.head_dim;
  std::vector<std::pair<int64_t, int64_t>> matrices{{q_size + 2 * kv_size, shapes.hidden},
                                                    {shapes.hidden, q_size},
                                                    {2 * shapes.intermediate, shapes.hidden},
                                                    {shapes.hidden, shapes.intermediate}};
  const std::vector<std::pair<int64_t, int64_t>> others{{3200, 3200}, {3200, 8640}, {4096, 14336}};
  for (const auto& other : others) {
    if (std::find(matrices.begin(), matrices.end(), other) == matrices.end()) matrices.push_back(other);
  }
  std::vector<KernelSpeed> out;
  for (const auto& [rows, cols] : matrices) cuda::measure_product(rows, cols, shapes, out);
  return out;
}

}  // namespace bitnet
