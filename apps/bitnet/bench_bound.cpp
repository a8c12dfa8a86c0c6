#include "bench_bound.h"

#include "bitnet/inference/cuda_speed.h"

#include <algorithm>

namespace bitnet::cli {
namespace {

int64_t macs_per_token(const ModelConfig& config) {
  const int64_t attention = 2 * config.q_size() + 2 * config.kv_size();
  return config.num_layers * config.hidden_size * (attention + 3 * config.intermediate_size);
}

double mean(const Json& both) {
  return (both["before"].get<double>() + both["after"].get<double>()) / 2;
}

}  // namespace

BenchWork work_of(const BenchTest& test, const Engine& engine, const Sequence& sequence) {
  const Model& model = engine.model();
  const auto tokens = static_cast<double>(test.tokens), sequences = static_cast<double>(test.sequences);
  const auto weights = static_cast<double>(model.decode_bytes());
  BenchWork work;
  work.int8_macs = tokens * sequences * static_cast<double>(macs_per_token(model.config()));
  if (test.prefill) {
    work.bytes = weights * std::max(1.0, tokens / static_cast<double>(engine.batch()));
  } else {
    const double cached = static_cast<double>(sequence.kv_bytes()) / static_cast<double>(sequence.context());
    work.bytes =
        tokens * (weights + sequences * cached * (static_cast<double>(test.depth) + (tokens + 1) / 2));
  }
  return work;
}

Json describe_bound(const MachineBound& before, const MachineBound& after) {
  return {{"threads", before.threads},
          {"int8_instruction", before.int8_instruction},
          {"read_bytes_per_second",
           {{"before", before.read_bytes_per_second}, {"after", after.read_bytes_per_second}}},
          {"int8_macs_per_second",
           {{"before", before.int8_macs_per_second}, {"after", after.int8_macs_per_second}}}};
}

void add_bound(Json& row, const BenchTest& test, const BenchWork& work, const Json& machine) {
  const double read_seconds = work.bytes / mean(machine["read_bytes_per_second"]);
  const double int8_seconds = work.int8_macs / mean(machine["int8_macs_per_second"]);
  const double bound =
      static_cast<double>(test.tokens * test.sequences) / std::max(read_seconds, int8_seconds);
  row["bound"] = {{"by", read_seconds > int8_seconds ? "read" : "int8"},
                  {"tokens_per_second", bound},
                  {"share", row["tokens_per_second"]["median"].get<double>() / bound}};
}

namespace {

KernelShapes shapes_of(const Model& model, const BenchOptions& options) {
  const ModelConfig& config = model.config();
  KernelShapes shapes;
  shapes.hidden = config.hidden_size;
  shapes.intermediate = config.intermediate_size;
  shapes.heads = config.num_heads;
  shapes.kv_heads = config.num_kv_heads;
  shapes.head_dim = config.head_dim;
  shapes.vocab = config.vocab_size;
  shapes.head = model.head_type();
  shapes.kv = *dtype_from_name(options.kv);
  shapes.relu2 = config.activation == Activation::kRelu2;
  shapes.cold_bytes = std::min(shapes.cold_bytes, model.decode_bytes());
  return shapes;
}

Json describe_kernel(const KernelSpeed& speed, int threads) {
  return {{"kernel", speed.kernel},
          {"shape", speed.shape},
          {"tokens", speed.tokens},
          {"threads", threads},
          {"seconds", speed.seconds},
          {"gop_per_second", speed.operations / speed.seconds * 1e-9},
          {"gb_per_second", speed.bytes / speed.seconds * 1e-9}};
}

}  // namespace

Json measure_kernel_rows(const Model& model, const BenchOptions& options, int threads,
                         const std::string& isa) {
  Json rows = Json::array();
  for (const KernelSpeed& speed : measure_kernels(shapes_of(model, options), threads, isa))
    rows.push_back(describe_kernel(speed, threads));
  return rows;
}

Json measure_cuda_kernel_rows(const Model& model, const BenchOptions& options, const std::string& device) {
  const CudaBound bound = measure_cuda_bound(device);
  Json rows = Json::array();
  KernelShapes shapes = shapes_of(model, options);
  shapes.tokens.push_back(2048);  // a prompt's
  for (const KernelSpeed& speed : measure_cuda_kernels(shapes, device)) {
    rows.push_back(describe_kernel(speed, 1));
    const double read = speed.bytes / speed.seconds / bound.read_bytes_per_second;
    const double int8 = speed.operations / speed.seconds / bound.int8_operations_per_second;
    rows.back()["bound"] = {{"by", read >= int8 ? "read" : "int8"}, {"share", std::max(read, int8)}};
  }
  if (device.find(',') != std::string::npos) {
    for (const KernelSpeed& speed : measure_cuda_exchanges(shapes_of(model, options), device))
      rows.push_back(describe_kernel(speed, 1));
  }
  rows.push_back(describe_kernel({.kernel = "cuda read",
                                  .shape = "1 GiB",
                                  .seconds = 0x1p30 / bound.read_bytes_per_second,
                                  .bytes = 0x1p30},
                                 1));
  rows.push_back(describe_kernel({.kernel = "cuda int8",
                                  .shape = "on registers",
                                  .seconds = 1e12 / bound.int8_operations_per_second,
                                  .operations = 1e12},
                                 1));
  return rows;
}

}  // namespace bitnet::cli
