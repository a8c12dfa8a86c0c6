#include "inference/cpu_runner.h"

#include "bitnet/core/thread_pool.h"
#include "inference/forward.h"
#include "inference/model_impl.h"
#include "inference/prefix_cache.h"

#include <algorithm>
#include <vector>

namespace bitnet {
namespace {

class CpuCache final : public SequenceCache {
 public:
  CpuCache(const Model::Impl& model, const kernels::KernelTable& table, int64_t context, DType kv_type)
      : model_(model), table_(table), cache_(model.checkpoint.config(), context, kv_type) {}

  [[nodiscard]] KvCache& cache() { return cache_; }
  [[nodiscard]] int64_t bytes() const override { return cache_.bytes(); }
  void shift(int64_t from, int64_t end, int64_t count) override {
    cache_.shift(table_, from, end, count, model_.inv_freq);
  }
  void save(const std::filesystem::path& path, std::span<const int32_t> tokens) const override {
    save_prefix(path, model_, cache_, tokens);
  }
  [[nodiscard]] std::vector<int32_t> load(const std::filesystem::path& path) override {
    return load_prefix(path, model_, cache_);
  }

 private:
  const Model::Impl& model_;
  const kernels::KernelTable& table_;
  KvCache cache_;
};

constexpr int64_t kDefaultBatch = 512;

class CpuRunner final : public Runner {
 public:
  CpuRunner(const Model::Impl& model, const SessionOptions& options, int64_t context)
      : model_((static_cast<void>(model.host(options.progress)), model)),
        table_(kernels::select_kernels(options.isa)),
        context_(context),
        kv_type_(options.kv_type),
        batch_(options.batch == 0 ? kDefaultBatch : options.batch),
        pool_(options.threads),
        forward_(model, {table_, pool_}, batch_, context, options.exact_head) {}

  [[nodiscard]] std::string_view kernels() const override { return table_.name; }
  [[nodiscard]] int threads() const override { return pool_.size(); }
  [[nodiscard]] std::unique_ptr<SequenceCache> make_cache() const override {
    return std::make_unique<CpuCache>(model_, table_, context_, kv_type_);
  }
  [[nodiscard]] int64_t batch() const override { return batch_; }
  void run(std::span<const RunnerRow> rows) override {
    rows_.clear();
    for (const RunnerRow& row : rows)
      rows_.push_back({row.id, row.position, &static_cast<CpuCache*>(row.cache)->cache()});
    forward_.run(rows_);
  }
  [[nodiscard]] int64_t logits_at_once() const override { return std::min(kMaxLogits, Head::kMaxTokens); }
  void logits(std::span<const int64_t> rows, std::span<float> out) override { forward_.logits(rows, out); }
  void top(std::span<const int64_t> rows, std::span<const TopQuery> queries,
           std::span<std::vector<Candidate>> out) override {
    forward_.top(rows, queries, out);
  }
  [[nodiscard]] const std::vector<LayerActivations>& activations() const override {
    return forward_.activations();
  }

 private:
  const Model::Impl& model_;
  const kernels::KernelTable& table_;
  int64_t context_;
  DType kv_type_;
  int64_t batch_;
  ThreadPool pool_;
  Forward forward_;
  std::vector<BatchRow> rows_;
};

}  // namespace

std::unique_ptr<Runner> make_cpu_runner(const Model::Impl& model, const SessionOptions& options,
                                        int64_t context) {
  return std::make_unique<CpuRunner>(model, options, context);
}

}  // namespace bitnet
