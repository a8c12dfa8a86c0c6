#include "inference/host_weights.h"

#include "bitnet/core/error.h"
#include "bitnet/core/mapped_file.h"
#include "bitnet/kernels/cpu.h"
#include "inference/executor.h"
#include "inference/model_impl.h"
#include "inference/weights_file.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// The layout of matrices that are multiplied as wholes.
TernaryLayout whole_layout(const Checkpoint& checkpoint, const LoadOptions& options) {
  const TernaryLayout wanted = options.layout.value_or(TernaryLayout::kBlocks);
  if (wanted != TernaryLayout::kBlocks && wanted != TernaryLayout::kTight) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("whole matrices cannot be multiplied from {}", to_string(wanted)),
                "ask for t2x16 or t53x16");
  }
  if (options.layout.has_value()) return wanted;
  constexpr int64_t kLeastWeights = int64_t{1} << 28;  // 64 MiB: smaller models may stay in a cache
  int64_t weights = 0;
  for (const std::string& name : checkpoint.linear_names())
    weights += checkpoint.linear(name).rows() * checkpoint.linear(name).cols();
  if (weights < kLeastWeights) return wanted;
  const std::optional<MeasuredLayouts> measured = measured_layouts(options.isa, options.threads);
  return measured.has_value() && measured->t53x16_pays ? TernaryLayout::kTight : wanted;
}

}  // namespace

LayerReader::LayerReader(const Checkpoint& checkpoint, int threads, Layouts layouts, Arena* arena,
                         OnProgress progress, WeightsFile* kept)
    : checkpoint_(checkpoint),
      layouts_(layouts),
      arena_(arena),
      kept_(kept),
      progress_(std::move(progress)),
      pool_(threads) {
  constexpr int64_t kHugePage = int64_t{2} << 20;
  int64_t bytes = 0;
  for (const std::string& name : checkpoint.linear_names()) {
    const TernarySource& source = checkpoint.linear(name);
    total_ += source.rows() * source.cols();
    bytes += round_up(source.rows(), PackedTernary::kLineRows) *
             round_up(source.cols(), PackedTernary::kBlockCols) / 4;
  }
  if (arena != nullptr) *arena = Arena(static_cast<size_t>(round_up(bytes, kHugePage)));
}

Layer LayerReader::read(int64_t index) {
  const auto norm = [&](const char* name) {
    return read_dense(checkpoint_.dense(fmt::format("blk.{}.{}.weight", index, name)));
  };
  Layer layer;
  layer.attn_norm = norm("attn_norm");
  layer.ffn_norm = norm("ffn_norm");
  if (checkpoint_.config().sub_norms) {
    layer.attn_sub_norm = norm("attn_sub_norm");
    layer.ffn_sub_norm = norm("ffn_sub_norm");
  }
  layer.q = linear(index, "attn_q", layouts_.whole);
  layer.k = linear(index, "attn_k", layouts_.whole);
  layer.v = linear(index, "attn_v", layouts_.whole);
  layer.attn_output = linear(index, "attn_output", layouts_.whole);
  layer.gate = linear(index, "ffn_gate", layouts_.whole);
  layer.up = linear(index, "ffn_up", layouts_.sparse ? TernaryLayout::kRows : layouts_.whole);
  layer.down = linear(index, "ffn_down", layouts_.sparse ? TernaryLayout::kColumns : layouts_.whole);
  return layer;
}

Linear LayerReader::linear(int64_t layer, const char* name, TernaryLayout layout) {
  Linear linear;
  linear.weight = pack(checkpoint_.linear(fmt::format("blk.{}.{}.weight", layer, name)), layout);
  const float* scales = linear.weight.row_scales();
  linear.max_row_scale = *std::max_element(scales, scales + linear.weight.rows());
  if (checkpoint_.config().projection_norms)
    linear.norm_in = read_dense(checkpoint_.dense(fmt::format("blk.{}.{}_norm_in.weight", layer, name)));
  return linear;
}

PackedTernary LayerReader::pack(const TernarySource& source, TernaryLayout layout) {
  const int64_t rows = source.rows(), cols = source.cols();
  PackedTernary packed(rows, cols, layout, arena_);
  done_ += rows * cols;
  const auto report = [&] {
    if (progress_) progress_(done_ / 4, total_ / 4);
  };
  if (kept_ != nullptr) {
    packed.restore([&](std::span<std::byte> part) { kept_->read(part, pool_); });
    source.drop_resident();  // what the fingerprint read
    report();
    return packed;
  }
  const int64_t group_rows = packed.group_rows();
  pool_.for_range(packed.groups(), 1, [&](int64_t begin, int64_t end) {
    std::vector<int8_t> trits(static_cast<size_t>(group_rows * cols));
    std::vector<float> scales(static_cast<size_t>(group_rows));
    for (int64_t group = begin; group < end; ++group) {
      const int64_t first = group * group_rows;
      const auto count = static_cast<size_t>(std::min(group_rows, rows - first));
      const auto part = std::span(trits).first(count * static_cast<size_t>(cols));
      source.read_rows(first, static_cast<int64_t>(count), part, std::span(scales).first(count));
      packed.set_group(group, part, std::span(scales).first(count));
    }
  });
  source.drop_resident();
  report();
  return packed;
}

HostWeights::HostWeights(const Model::Impl& model, const OnProgress& progress) {
  const Checkpoint& checkpoint = model.checkpoint;
  const LoadOptions& options = model.options;
  // Squared ReLU makes exact zeros; SiLU makes none.
  const bool sparse = options.sparse && checkpoint.config().activation == Activation::kRelu2;
  const bool head_copy = options.head_copy && RoundedHead::suits(model.head);
  std::optional<WeightsFile> kept;
  if (!options.weights_cache.empty()) kept = WeightsFile::open(model, sparse, head_copy);
  layouts = {kept ? kept->whole_layout() : whole_layout(checkpoint, options), sparse};
  LayerReader reader(checkpoint, options.threads, layouts, &arena, progress, kept ? &*kept : nullptr);
  for (int64_t i = 0; i < checkpoint.config().num_layers; ++i) layers.push_back(reader.read(i));
  if (head_copy) {
    ThreadPool pool(options.threads);
    if (kept) {
      rounded_head.emplace(model.head, [&](std::span<std::byte> part) { kept->read(part, pool); });
    } else {
      rounded_head.emplace(model.head, pool, MappedFile::drop_resident);
    }
  }
  if (!options.weights_cache.empty() && !kept) write_weights_file(model, *this);
}

int64_t HostWeights::linear_bytes() const {
  int64_t bytes = 0;
  for (const Layer& layer : layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.attn_output, &layer.gate, &layer.up, &layer.down})
      bytes += linear->weight.bytes();
  }
  return bytes;
}

}  // namespace bitnet
