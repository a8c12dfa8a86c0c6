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

/// Repacks linear layers into the kernels' layout on all threads, reporting progress.
class Packer {
 public:
  /// Makes `arena` large enough for all linear layers in any layout.
  Packer(const Checkpoint& checkpoint, const LoadOptions& options, Arena& arena)
      : checkpoint_(checkpoint), options_(options), arena_(arena), pool_(options.threads) {
    constexpr int64_t kHugePage = int64_t{2} << 20;
    int64_t bytes = 0;
    for (const std::string& name : checkpoint.linear_names()) {
      const TernarySource& source = checkpoint.linear(name);
      total_ += source.rows() * source.cols();
      bytes += round_up(source.rows(), PackedTernary::kLineRows) *
               round_up(source.cols(), PackedTernary::kBlockCols) / 4;
    }
    arena_ = Arena(static_cast<size_t>(round_up(bytes, kHugePage)));
  }

  Linear load(int64_t layer, const char* name, TernaryLayout layout = TernaryLayout::kBlocks) {
    Linear linear;
    linear.weight = pack(fmt::format("blk.{}.{}.weight", layer, name), layout);
    const float* scales = linear.weight.row_scales();
    linear.max_row_scale = *std::max_element(scales, scales + linear.weight.rows());
    if (checkpoint_.config().projection_norms) {
      linear.norm_in = read_dense(checkpoint_.dense(fmt::format("blk.{}.{}_norm_in.weight", layer, name)));
    }
    return linear;
  }

 private:
  PackedTernary pack(const std::string& name, TernaryLayout layout) {
    const TernarySource& source = checkpoint_.linear(name);
    const int64_t rows = source.rows(), cols = source.cols();
    PackedTernary packed(rows, cols, layout, &arena_);
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
    done_ += rows * cols;
    if (options_.progress) options_.progress(done_ / 4, total_ / 4);
    return packed;
  }

  const Checkpoint& checkpoint_;
  const LoadOptions& options_;
  Arena& arena_;
  ThreadPool pool_;
  int64_t done_ = 0, total_ = 0;
};

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

Layer load_layer(const Checkpoint& checkpoint, Packer& packer, int64_t index, bool sparse) {
  const auto norm = [&](const char* name) {
    return read_dense(checkpoint.dense(fmt::format("blk.{}.{}.weight", index, name)));
  };
  Layer layer;
  layer.attn_norm = norm("attn_norm");
  layer.ffn_norm = norm("ffn_norm");
  if (checkpoint.config().sub_norms) {
    layer.attn_sub_norm = norm("attn_sub_norm");
    layer.ffn_sub_norm = norm("ffn_sub_norm");
  }
  layer.q = packer.load(index, "attn_q");
  layer.k = packer.load(index, "attn_k");
  layer.v = packer.load(index, "attn_v");
  layer.attn_output = packer.load(index, "attn_output");
  layer.gate = packer.load(index, "ffn_gate");
  layer.up = packer.load(index, "ffn_up", sparse ? TernaryLayout::kRows : TernaryLayout::kBlocks);
  layer.down = packer.load(index, "ffn_down", sparse ? TernaryLayout::kColumns : TernaryLayout::kBlocks);
  return layer;
}

int64_t packed_bytes(const Layer& layer) {
  int64_t bytes = 0;
  for (const Linear* linear :
       {&layer.q, &layer.k, &layer.v, &layer.attn_output, &layer.gate, &layer.up, &layer.down}) {
    bytes += linear->weight.bytes();
  }
  return bytes;
}

void copy_head(Model::Impl& impl, int threads) {
  ThreadPool pool(threads);
  if (RoundedHead::suits(impl.head)) impl.rounded_head.emplace(impl.head, pool, MappedFile::drop_resident);
  impl.weight_bytes += impl.head_copy_bytes();
}

}  // namespace

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
    if (options.head_copy) copy_head(impl, options.threads);
    impl.output_norm = read_dense(impl.checkpoint.dense("output_norm.weight"));
    impl.inv_freq = rope_inv_freq(config);
    Packer packer(impl.checkpoint, options, impl.linear_weights);
    impl.weight_bytes += static_cast<int64_t>(impl.embedding.bytes.size());
    // Squared ReLU makes exact zeros; SiLU makes none.
    const bool sparse = options.sparse && config.activation == Activation::kRelu2;
    if (!config.tied_head) impl.weight_bytes += static_cast<int64_t>(impl.head.bytes.size());
    for (int64_t i = 0; i < config.num_layers; ++i) {
      impl.layers.push_back(load_layer(impl.checkpoint, packer, i, sparse));
      impl.weight_bytes += packed_bytes(impl.layers.back());
    }
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
  return impl_->weight_bytes;
}
int64_t Model::decode_bytes() const {
  const auto embedding = static_cast<int64_t>(impl_->embedding.bytes.size());
  const auto head = static_cast<int64_t>(impl_->head.bytes.size());
  const int64_t beside_layers = embedding + (config().tied_head ? 0 : head);
  if (impl_->head_copy_bytes() == 0) return impl_->weight_bytes - beside_layers + head;
  // The copy is read instead of the stored one, without its finer part.
  return impl_->weight_bytes - beside_layers - impl_->head_copy_bytes() + impl_->rounded_head->scan_bytes();
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
