#include "inference/split_runner.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/core/thread_pool.h"
#include "inference/cuda_cache.h"
#include "inference/cuda_runner.h"
#include "inference/model_impl.h"
#include "inference/prefix_cache.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet::cuda {
namespace {

/// Keys and values of one sequence: each GPU has those of its heads.
class SplitCache final : public SequenceCache {
 public:
  SplitCache(const Model::Impl& model, int64_t context, DType kv_type,
             std::vector<std::unique_ptr<SequenceCache>> parts)
      : model_(model), context_(context), kv_type_(kv_type), parts_(std::move(parts)) {}

  [[nodiscard]] SequenceCache* part(size_t rank) const { return parts_[rank].get(); }
  [[nodiscard]] int64_t bytes() const override {
    int64_t bytes = 0;
    for (const auto& part : parts_) bytes += part->bytes();
    return bytes;
  }
  void shift(int64_t from, int64_t end, int64_t count) override {
    for (const auto& part : parts_) part->shift(from, end, count);
  }
  void save(const std::filesystem::path& path, std::span<const int32_t> tokens) const override {
    const int64_t count = std::ssize(tokens);
    KvCache host(model_.checkpoint.config(), std::max<int64_t>(count, 1), kv_type_);
    copy(host, count, true);
    save_prefix(path, model_, host, tokens);
  }
  [[nodiscard]] std::vector<int32_t> load(const std::filesystem::path& path) override {
    KvCache host(model_.checkpoint.config(), context_, kv_type_);
    std::vector<int32_t> tokens = load_prefix(path, model_, host);
    for (const auto& part : parts_) static_cast<CudaCache&>(*part).reserve(std::ssize(tokens));
    copy(host, std::ssize(tokens), false);
    return tokens;
  }

 private:
  void copy(KvCache& host, int64_t count, bool to_host) const {
    for (const auto& part : parts_) static_cast<const CudaCache&>(*part).copy(host, count, to_host);
  }

  const Model::Impl& model_;
  int64_t context_;
  DType kv_type_;
  std::vector<std::unique_ptr<SequenceCache>> parts_;
};

class SplitRunner;

/// Kernels of a pass wait for those of the same pass on other GPUs, and kernels behind them hold
/// multiprocessors meanwhile: of two passes under way, one could keep the other from what it waits for. So
/// there is one.
std::mutex pass_mutex;
SplitRunner* under_way = nullptr;

/// A thread for each GPU queues its work, so that no GPU waits for the launches of another.
class SplitRunner final : public Runner {
 public:
  SplitRunner(const Model::Impl& model, const SessionOptions& options, int64_t context,
              std::span<const int> devices);
  ~SplitRunner() override {
    const std::scoped_lock lock(pass_mutex);
    if (under_way == this) under_way = nullptr;
    for (const auto& share : shares_) {  // who has ended may still be read from
      try {
        share->synchronize();
      } catch (const Error&) {  // a kernel failed: run() or logits() has said so, or nobody asked
      }
    }
  }

  [[nodiscard]] std::string_view kernels() const override { return "cuda"; }
  [[nodiscard]] int threads() const override { return pool_.size(); }
  [[nodiscard]] std::unique_ptr<SequenceCache> make_cache() const override {
    std::vector<std::unique_ptr<SequenceCache>> parts;
    for (const auto& share : shares_) parts.push_back(share->make_cache());
    return std::make_unique<SplitCache>(model_, context_, kv_type_, std::move(parts));
  }
  void run(std::span<const RunnerRow> rows) override;
  [[nodiscard]] int64_t batch() const override { return shares_.front()->batch(); }
  [[nodiscard]] int64_t logits_at_once() const override { return shares_.front()->logits_at_once(); }
  void logits(std::span<const int64_t> rows, std::span<float> out) override;
  void top(std::span<const int64_t> rows, std::span<const TopQuery> queries,
           std::span<std::vector<Candidate>> out) override;
  [[nodiscard]] const std::vector<LayerActivations>& activations() const override {
    return shares_.front()->activations();
  }

 private:
  void synchronize() {
    for (const auto& share : shares_) share->synchronize();
  }
  /// Calls body(rank) for each GPU, all at once.
  template <class Body>
  void for_each_share(Body&& body) {
    pool_.run([&](int worker, int workers) {
      for (size_t rank = static_cast<size_t>(worker); rank < shares_.size();
           rank += static_cast<size_t>(workers))
        body(rank);
    });
  }
  [[nodiscard]] static std::vector<RunnerRow> rows_of_share(std::span<const RunnerRow> rows, size_t rank);
  [[nodiscard]] ShareRows::Range vocab(size_t rank) const {
    return rows_of(config_, {static_cast<int>(rank), static_cast<int>(shares_.size())}).vocab;
  }

  const Model::Impl& model_;
  const ModelConfig& config_;
  int64_t context_;
  DType kv_type_;
  ThreadPool pool_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  std::vector<std::unique_ptr<ShareRunner>> shares_;
  int64_t passes_ = 0;
};

SplitRunner::SplitRunner(const Model::Impl& model, const SessionOptions& options, int64_t context,
                         std::span<const int> devices)
    : model_(model),
      config_(model.checkpoint.config()),
      context_(context),
      kv_type_(options.kv_type),
      pool_(static_cast<int>(devices.size())) {
  const int size = static_cast<int>(devices.size());
  std::vector<SharePlace> share_places;
  for (int rank = 0; rank < size; ++rank)
    share_places.push_back({devices[static_cast<size_t>(rank)], {rank, size}});
  const auto weights = models_on_devices(model, share_places, options);  // the runners find them there
  std::vector<ExchangePlace> places;
  for (int rank = 0; rank < size; ++rank) {
    const int device = devices[static_cast<size_t>(rank)];
    shares_.push_back(make_share_runner(model, options, context, device, {rank, size}));
    places.push_back({device, shares_.back()->vectors()});
  }
  exchanges_ = make_exchanges(config_, places, shares_.front()->batch());
  for (size_t rank = 0; rank < shares_.size(); ++rank) shares_[rank]->join(*exchanges_[rank]);
  log_message(LogLevel::kInfo,
              fmt::format("{} GPUs share the model; they exchange by {}", size, exchanges_.front()->name()));
}

std::vector<RunnerRow> SplitRunner::rows_of_share(std::span<const RunnerRow> rows, size_t rank) {
  std::vector<RunnerRow> own(rows.begin(), rows.end());
  for (RunnerRow& row : own) row.cache = static_cast<SplitCache*>(row.cache)->part(rank);
  return own;
}

void SplitRunner::run(std::span<const RunnerRow> rows) {
  const std::scoped_lock lock(pass_mutex);
  if (under_way != nullptr && under_way != this) under_way->synchronize();
  under_way = this;
  for (size_t rank = 0; rank < shares_.size(); ++rank) {
    shares_[rank]->synchronize();                       // of the last pass, another GPU may still read
    shares_[rank]->reserve(rows_of_share(rows, rank));  // before any GPU waits for this one
  }
  if (++passes_ == exchanges_.front()->passes()) {
    for (const auto& exchange : exchanges_) exchange->renew();
    passes_ = 0;
  }
  for_each_share([&](size_t rank) { shares_[rank]->run(rows_of_share(rows, rank)); });
}

void SplitRunner::logits(std::span<const int64_t> rows, std::span<float> out) {
  for_each_share([&](size_t rank) {
    const auto [begin, end] = vocab(rank);
    const auto width = static_cast<size_t>(end - begin);
    std::vector<float> part(rows.size() * width);
    shares_[rank]->logits(rows, part);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::copy_n(part.begin() + static_cast<std::ptrdiff_t>(i * width), width,
                  out.begin() + static_cast<std::ptrdiff_t>(i) * config_.vocab_size + begin);
    }
  });
}

void SplitRunner::top(std::span<const int64_t> rows, std::span<const TopQuery> queries,
                      std::span<std::vector<Candidate>> out) {
  // The k highest of all are among the k highest of each part of the vocabulary.
  std::vector<std::vector<std::vector<Candidate>>> found(shares_.size());
  for_each_share([&](size_t rank) {
    const auto [begin, end] = vocab(rank);
    std::vector<std::vector<int32_t>> always(queries.size());
    std::vector<TopQuery> own(queries.begin(), queries.end());
    for (size_t i = 0; i < queries.size(); ++i) {
      for (const int32_t id : queries[i].always) {
        if (id >= begin && id < end) always[i].push_back(id - static_cast<int32_t>(begin));
      }
      own[i].always = always[i];
    }
    found[rank].resize(rows.size());
    shares_[rank]->top(rows, own, found[rank]);
  });
  for (size_t i = 0; i < rows.size(); ++i) {
    out[i].clear();
    for (size_t rank = 0; rank < shares_.size(); ++rank) {
      const auto begin = static_cast<int32_t>(vocab(rank).begin);
      for (const Candidate& candidate : found[rank][i])
        out[i].push_back({candidate.id + begin, candidate.logit});
    }
  }
}

}  // namespace

std::unique_ptr<Runner> make_split_runner(const Model::Impl& model, const SessionOptions& options,
                                          int64_t context, std::span<const int> devices) {
  return std::make_unique<SplitRunner>(model, options, context, devices);
}

}  // namespace bitnet::cuda
