#include "inference/cuda_runner.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "inference/cuda_forward.h"
#include "inference/cuda_head.h"
#include "inference/cuda_step.h"
#include "inference/split_runner.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace cuda {
namespace {

constexpr size_t kMostGraphs = 32;

/// Many tokens share what a launch and an uneven last round of blocks cost; a short context has no use for
/// them.
int64_t batch_of(const SessionOptions& options, int64_t context) {
  constexpr int64_t kLeastBatch = 512, kMostBatch = 2048;
  return options.batch == 0 ? std::clamp(context, kLeastBatch, kMostBatch) : options.batch;
}

Scratch make_scratch(const ModelConfig& config, int64_t batch, int64_t context, const CudaModel& model) {
  try {
    return {config, batch, context, CudaHead::workspace_bytes(model)};
  } catch (Error& error) {
    error.with_context(fmt::format("scratch memory for batches of {} tokens", batch));
    throw;
  }
}

/// What a step that draws its tokens leaves for the host, and reads from it.
struct DrawingSlot {
  explicit DrawingSlot(size_t batch)
      : ids(batch * sizeof(int32_t)), rows(batch * sizeof(DecodeRow)), tokens(batch * sizeof(int32_t)) {}
  PinnedBuffer ids, rows, tokens;
  OwnedEvent done;
};

class CudaRunner final : public ShareRunner, public DrawingSteps {
 public:
  CudaRunner(const Model::Impl& model, const SessionOptions& options, int64_t context, int device,
             Share share = {})
      : model_(model),
        device_((table().use_device(device), device)),
        context_(context),
        kv_type_(options.kv_type),
        weights_(model_on_device(model, device, options, share)),
        scratch_(make_scratch(config(), batch_of(options, context), context, *weights_)),
        forward_(config(), *weights_, scratch_, kv_type_, context),
        step_(config(), *weights_, scratch_, kv_type_, context_),
        head_(weights_->config, *weights_, options.exact_head, scratch_.head.data()),
        host_ids_(static_cast<size_t>(scratch_.batch) * sizeof(int32_t)),
        host_rows_(static_cast<size_t>(scratch_.batch) * sizeof(DecodeRow)),
        slots_{DrawingSlot(static_cast<size_t>(scratch_.batch)),
               DrawingSlot(static_cast<size_t>(scratch_.batch))} {
    table().rope_table({.inv_freq = weights_->inv_freq.as<float>(),
                        .positions = context,
                        .half = config().head_dim / 2,
                        .cos = scratch_.cos.as<float>(),
                        .sin = scratch_.sin.as<float>()},
                       stream_.get());
    table().synchronize(stream_.get());
    log_message(LogLevel::kInfo,
                fmt::format("cuda:{}: {} bytes of scratch memory, {} bytes free", device,
                            scratch_.bytes() + step_.bytes() + head_.bytes(), table().memory().free_bytes));
  }
  ~CudaRunner() override {
    try {
      table().use_device(device_);
      table().synchronize(stream_.get());
    } catch (const Error&) {  // a kernel failed: run() or logits() has said so, or nobody asked
      return;
    }
  }

  [[nodiscard]] std::string_view kernels() const override { return "cuda"; }
  [[nodiscard]] int threads() const override { return 1; }
  [[nodiscard]] std::unique_ptr<SequenceCache> make_cache() const override {
    return std::make_unique<CudaCache>(model_, *weights_, context_, kv_type_, pages_);
  }
  [[nodiscard]] int64_t batch() const override { return scratch_.batch; }
  void run(std::span<const RunnerRow> rows) override;
  [[nodiscard]] int64_t logits_at_once() const override { return kMaxLogits; }
  void logits(std::span<const int64_t> rows, std::span<float> out) override;
  void top(std::span<const int64_t> rows, std::span<const TopQuery> queries,
           std::span<std::vector<Candidate>> out) override;
  [[nodiscard]] const std::vector<LayerActivations>& activations() const override { return activations_; }

  /// A share has candidates of its own rows alone.
  [[nodiscard]] DrawingSteps* drawing_steps() override { return weights_->share.alone() ? this : nullptr; }
  [[nodiscard]] bool can_draw(const TokenDraw& draw) const override { return head_.can_draw(draw.k); }
  void queue(std::span<const RunnerRow> rows, std::span<const TokenDraw> draws, bool follow) override;
  void take(std::span<int32_t> tokens) override;
  void drop() noexcept override;

  [[nodiscard]] SharedVectors vectors() const override {
    return {{{scratch_.attn.as<float>(), scratch_.q_size},
             {scratch_.x.as<float>(), scratch_.hidden},
             {scratch_.gate.as<float>(), scratch_.ffn}}};
  }
  void join(Exchange& exchange) override;
  void reserve(std::span<const RunnerRow> rows) override;
  void synchronize() override {
    table().use_device(device_);
    table().synchronize(stream_.get());
  }

 private:
  [[nodiscard]] const ModelConfig& config() const { return model_.checkpoint.config(); }
  /// Writes DecodeRows for the device to `singles`; returns the segments of several tokens.
  std::vector<Segment> gather(std::span<const RunnerRow> rows, DecodeRow* singles);
  /// The tokens' rows of the embedding, which shares leave in host memory; ids then count them.
  void send_embeddings(std::span<const RunnerRow> rows, int32_t* ids);
  /// Copies ids, and the DecodeRows gathered.
  void send_inputs(std::span<const RunnerRow> rows, int32_t* ids, const DecodeRow* singles);
  /// The layers for rows of which all inputs are on the device.
  void run_layers(std::span<const RunnerRow> rows, std::span<const Segment> segments);
  /// The graph for `rows` single tokens of sequences as gathered; null at the first use of many rows, which
  /// is not worth capturing until it comes again.
  [[nodiscard]] Graph decode_graph(int64_t rows);

  const Model::Impl& model_;
  int device_;
  int64_t context_;
  DType kv_type_;
  std::shared_ptr<PagePool> pages_ = PagePool::make(device_);  ///< of the caches; null where there are none
  std::shared_ptr<const CudaModel> weights_;
  Scratch scratch_;
  CudaForward forward_;
  CudaStep step_;
  CudaHead head_;
  PinnedBuffer host_ids_, host_rows_;
  std::optional<PinnedBuffer> host_embeddings_;  ///< a share's: of the tokens of a run
  DeviceBuffer embeddings_;
  OwnedStream stream_;
  std::map<std::pair<int64_t, int>, OwnedGraph> graphs_;  ///< the layers, by rows and bucket of chunks
  std::vector<LayerActivations> activations_;             ///< none: they are not counted here
  std::array<DrawingSlot, kMostQueued> slots_;
  int64_t queued_ = 0, taken_ = 0;  ///< steps that draw
  int64_t singles_ = 0;
  int64_t single_chunks_ = 0;  ///< that the longest of their sequences has
};

void CudaRunner::reserve(std::span<const RunnerRow> rows) {
  for (const RunnerRow& row : rows) static_cast<CudaCache*>(row.cache)->reserve(row.position + 1);
}

std::vector<Segment> CudaRunner::gather(std::span<const RunnerRow> rows, DecodeRow* singles) {
  std::vector<Segment> segments;
  singles_ = 0;
  single_chunks_ = 0;
  for (size_t begin = 0; begin < rows.size();) {
    size_t end = begin + 1;
    while (end < rows.size() && rows[end].cache == rows[begin].cache) ++end;
    const auto& cache = *static_cast<CudaCache*>(rows[begin].cache);
    const auto row = static_cast<int64_t>(begin);
    if (end - begin == 1) {
      singles[singles_++] = {.keys = cache.keys(),
                             .values = cache.values(),
                             .row = static_cast<int32_t>(row),
                             .position = static_cast<int32_t>(rows[begin].position)};
      single_chunks_ = std::max(single_chunks_, chunks_of(rows[begin].position + 1));
    } else {
      segments.push_back({row, static_cast<int64_t>(end - begin), rows[begin].position, &cache});
    }
    begin = end;
  }
  return segments;
}

void CudaRunner::join(Exchange& exchange) {
  table().use_device(device_);
  const DenseMatrix& matrix = model_.embedding;
  embeddings_ = DeviceBuffer(static_cast<size_t>(scratch_.batch * aligned_row(matrix)));
  host_embeddings_.emplace(embeddings_.bytes());
  std::memset(host_embeddings_->as<std::byte>(), 0, embeddings_.bytes());  // also behind the rows
  forward_.join(exchange, {.dtype = matrix.dtype,
                           .rows = embeddings_.data(),
                           .row_bytes = aligned_row(matrix),
                           .count = scratch_.batch,
                           .cols = matrix.cols});
}

void CudaRunner::send_embeddings(std::span<const RunnerRow> rows, int32_t* ids) {
  const int64_t stride = aligned_row(model_.embedding);
  auto* const out = host_embeddings_->as<std::byte>();
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::span<const std::byte> row = model_.embedding.row(rows[i].id);
    std::memcpy(out + static_cast<int64_t>(i) * stride, row.data(), row.size());
    ids[i] = static_cast<int32_t>(i);
  }
  table().to_device(embeddings_.data(), out, rows.size() * static_cast<size_t>(stride), stream_.get());
}

void CudaRunner::send_inputs(std::span<const RunnerRow> rows, int32_t* ids, const DecodeRow* singles) {
  for (size_t i = 0; i < rows.size(); ++i) ids[i] = rows[i].id;
  if (host_embeddings_) send_embeddings(rows, ids);
  table().to_device(scratch_.ids.data(), ids, rows.size() * sizeof(int32_t), stream_.get());
  if (singles_ == 0) return;
  table().to_device(scratch_.decode_rows.data(), singles, static_cast<size_t>(singles_) * sizeof(DecodeRow),
                    stream_.get());
}

Graph CudaRunner::decode_graph(int64_t rows) {
  // A graph's grids are fixed: one graph for 1, 2, 4, ... chunks, whose idle blocks are at most half.
  const auto bucket = static_cast<int>(std::bit_width(static_cast<uint64_t>(single_chunks_ - 1)));
  if (graphs_.size() >= kMostGraphs && !graphs_.contains({rows, bucket})) graphs_.clear();
  const auto [entry, is_new] = graphs_.try_emplace({rows, bucket});
  OwnedGraph& graph = entry->second;
  if (graph.get() != nullptr || (is_new && rows > 1)) return graph.get();
  const int64_t chunks = std::min(int64_t{1} << bucket, scratch_.chunks);
  table().begin_capture(stream_.get());
  if (rows == 1) {
    forward_.decode_one(chunks, stream_.get());
  } else {
    forward_.run_batch(rows, rows, chunks, {}, stream_.get());
  }
  graph.reset(table().end_capture(stream_.get()));
  return graph.get();
}

void CudaRunner::run_layers(std::span<const RunnerRow> rows, std::span<const Segment> segments) {
  if (segments.empty()) {
    auto* const graph = decode_graph(std::ssize(rows));
    if (graph != nullptr) {
      table().launch_graph(graph, stream_.get());
      return;
    }
  }
  forward_.run_batch(std::ssize(rows), singles_, single_chunks_, segments, stream_.get());
}

void CudaRunner::run(std::span<const RunnerRow> rows) {
  table().use_device(device_);
  reserve(rows);
  table().synchronize(stream_.get());  // the last run has read the pinned buffers
  if (rows.size() == 1 && step_.runs()) {
    const RunnerRow& row = rows.front();
    step_.run(row.id, row.position, *static_cast<const CudaCache*>(row.cache), stream_.get());
    return;
  }
  auto* const singles = host_rows_.as<DecodeRow>();
  const std::vector<Segment> segments = gather(rows, singles);
  send_inputs(rows, host_ids_.as<int32_t>(), singles);
  run_layers(rows, segments);
}

void CudaRunner::queue(std::span<const RunnerRow> rows, std::span<const TokenDraw> draws, bool follow) {
  table().use_device(device_);
  reserve(rows);
  DrawingSlot& slot = slots_[static_cast<size_t>(queued_ % kMostQueued)];
  auto* const ids = scratch_.ids.as<int32_t>();
  const bool one = rows.size() == 1 && step_.runs();
  singles_ = 0;
  if (!one) (void)gather(rows, slot.rows.as<DecodeRow>());
  // The step in front has raised the positions, too.
  if (!follow) send_inputs(rows, slot.ids.as<int32_t>(), slot.rows.as<DecodeRow>());
  if (one) {
    step_.run(ids, rows.front().position, *static_cast<const CudaCache*>(rows.front().cache), stream_.get());
  } else {
    run_layers(rows, {});
  }
  for (size_t first = 0; first < rows.size(); first += kMaxLogits) {
    const auto part = draws.subspan(first, std::min<size_t>(draws.size() - first, kMaxLogits));
    DecodeRow* const advance = one ? nullptr : scratch_.decode_rows.as<DecodeRow>() + first;
    head_.draw(scratch_.x.as<float>(), scratch_.hidden, static_cast<int64_t>(first), part,
               slot.tokens.as<int32_t>() + first, ids + first, advance, stream_.get());
  }
  table().record(slot.done.get(), stream_.get());
  ++queued_;
}

void CudaRunner::take(std::span<int32_t> tokens) {
  const DrawingSlot& slot = slots_[static_cast<size_t>(taken_++ % kMostQueued)];
  table().wait(slot.done.get());
  std::copy_n(slot.tokens.as<const int32_t>(), tokens.size(), tokens.begin());
}

void CudaRunner::drop() noexcept {
  for (; taken_ < queued_; ++taken_) {
    try {
      table().use_device(device_);
      table().wait(slots_[static_cast<size_t>(taken_ % kMostQueued)].done.get());
    } catch (const Error&) {  // the next call on this stream says so
    }
  }
}

void CudaRunner::logits(std::span<const int64_t> rows, std::span<float> out) {
  table().use_device(device_);
  head_.logits(scratch_.x.as<float>(), scratch_.hidden, rows, out, stream_.get());
}

void CudaRunner::top(std::span<const int64_t> rows, std::span<const TopQuery> queries,
                     std::span<std::vector<Candidate>> out) {
  table().use_device(device_);
  head_.top(scratch_.x.as<float>(), scratch_.hidden, rows, queries, out, stream_.get());
}

}  // namespace

std::unique_ptr<ShareRunner> make_share_runner(const Model::Impl& model, const SessionOptions& options,
                                               int64_t context, int device, Share share) {
  return std::make_unique<CudaRunner>(model, options, context, device, share);
}

}  // namespace cuda

std::unique_ptr<Runner> make_cuda_runner(const Model::Impl& model, const SessionOptions& options,
                                         int64_t context, std::span<const int> devices) {
  if (devices.size() > 1) return cuda::make_split_runner(model, options, context, devices);
  return std::make_unique<cuda::CudaRunner>(model, options, context, devices.front());
}

}  // namespace bitnet
