#include "bitnet/inference/model.h"

#include "bitnet/core/error.h"
#include "bitnet/core/mapped_file.h"
#include "bitnet/core/thread_pool.h"
#include "inference/executor.h"
#include "inference/model_impl.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include <fmt/format.h>

namespace bitnet {
namespace {

DenseMatrix dense_matrix(const DenseSource& source) {
  DenseMatrix matrix;
  matrix.dtype = source.dtype;
  matrix.rows = source.shape.at(0);
  matrix.cols = source.shape.at(1);
  const std::array<int64_t, 1> row{matrix.cols};
  matrix.row_bytes = storage_bytes(matrix.dtype, row);
  matrix.bytes = source.bytes;
  return matrix;
}

}  // namespace

const HostWeights& Model::Impl::host(const OnProgress& progress) const {
  const std::scoped_lock lock(host_mutex);
  if (host_weights == nullptr) host_weights = std::make_unique<const HostWeights>(*this, progress);
  return *host_weights;
}

const HostWeights* Model::Impl::host_if_made() const {
  const std::scoped_lock lock(host_mutex);
  return host_weights.get();
}

int64_t Model::Impl::blocks_bytes() const {
  int64_t bytes = 0;
  for (const std::string& name : checkpoint.linear_names()) {
    const TernarySource& source = checkpoint.linear(name);
    bytes += round_up(source.rows(), PackedTernary::kGroupRows) *
             round_up(source.cols(), PackedTernary::kBlockCols) / 4;
  }
  return bytes;
}

Model::Model() = default;
Model::~Model() = default;

std::shared_ptr<const Model> Model::load(const std::filesystem::path& path, const LoadOptions& options) {
  const std::shared_ptr<Model> model(new Model);
  model->impl_ = std::make_unique<Impl>(Checkpoint::open(path));
  Impl& impl = *model->impl_;
  try {
    const ModelConfig& config = impl.checkpoint.config();
    if (const auto& spec = impl.checkpoint.tokenizer()) {
      impl.tokenizer = std::make_unique<Tokenizer>(*spec);
      impl.chat_template = detect_chat_template(config.architecture, *spec);
    }
    impl.embedding = dense_matrix(impl.checkpoint.dense("token_embd.weight"));
    impl.head = config.tied_head ? impl.embedding : dense_matrix(impl.checkpoint.dense("output.weight"));
    impl.output_norm = read_dense(impl.checkpoint.dense("output_norm.weight"));
    impl.inv_freq = rope_inv_freq(config);
    impl.options = options;
    impl.options.progress = nullptr;  // the caller's for the time of this call
    if (!options.defer_layout) (void)impl.host(options.progress);
  } catch (Error& error) {
    error.with_context(path.string());
    throw;
  }
  return model;
}

const ModelConfig& Model::config() const {
  return impl_->checkpoint.config();
}
const std::filesystem::path& Model::path() const {
  return impl_->checkpoint.path();
}
const Tokenizer* Model::tokenizer() const {
  return impl_->tokenizer.get();
}
const std::vector<int32_t>& Model::stop_tokens() const {
  return impl_->checkpoint.stop_tokens();
}
ChatTemplate Model::chat_template() const {
  return impl_->chat_template;
}
int64_t Model::weight_bytes() const {
  const HostWeights* host = impl_->host_if_made();
  const int64_t linear = host != nullptr ? host->linear_bytes() : impl_->blocks_bytes();
  const int64_t copy = host != nullptr ? host->head_copy_bytes() : 0;
  const int64_t head = config().tied_head ? 0 : std::ssize(impl_->head.bytes);
  return linear + copy + std::ssize(impl_->embedding.bytes) + head;
}
int64_t Model::decode_bytes() const {
  const HostWeights* host = impl_->host_if_made();
  if (host == nullptr) return impl_->blocks_bytes() + std::ssize(impl_->head.bytes);
  // The copy is read instead of the stored one, without its finer part.
  return host->linear_bytes() +
         (host->rounded_head ? host->rounded_head->scan_bytes() : std::ssize(impl_->head.bytes));
}
TernaryLayout Model::layout() const {
  const HostWeights* host = impl_->host_if_made();
  return host != nullptr ? host->layouts.whole : TernaryLayout::kBlocks;
}
DType Model::head_type() const {
  return impl_->head.dtype;
}

const Tokenizer& Model::require_tokenizer() const {
  if (impl_->tokenizer == nullptr) {
    throw Error(ErrorCode::kUnsupported, fmt::format("{} has no tokenizer", path().string()),
                "give token ids instead of text, or put tokenizer.json beside the model");
  }
  return *impl_->tokenizer;
}

}  // namespace bitnet
