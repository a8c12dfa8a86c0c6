#include "bitnet/model/checkpoint.h"

#include "bitnet/core/log.h"
#include "bitnet/quant/block_formats.h"
#include "model/checkpoint_builder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bitnet {
namespace {

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF64;
}

bool is_dense_type(DType dtype) {
  return is_float(dtype) || dtype == DType::kQ8_0 || dtype == DType::kQ6_K || dtype == DType::kQ4_0;
}

}  // namespace

void TensorTable::add(RawTensor tensor) {
  index_.emplace(tensor.name, tensors_.size());
  tensors_.push_back(std::move(tensor));
}

const RawTensor* TensorTable::take(const std::string& name) {
  const auto found = index_.find(name);
  if (found == index_.end()) return nullptr;
  used_.insert(name);
  return &tensors_[found->second];
}

const RawTensor& TensorTable::require(const std::string& name) {
  if (const RawTensor* tensor = take(name)) return *tensor;
  throw Error(ErrorCode::kCorruptData,
              fmt::format("the model's configuration asks for tensor '{}', but it is missing", name),
              "the file is incomplete, or belongs to another configuration");
}

std::vector<std::string> TensorTable::unused() const {
  std::vector<std::string> names;
  for (const RawTensor& tensor : tensors_) {
    if (!used_.contains(tensor.name)) names.push_back(tensor.name);
  }
  return names;
}

bool TensorTable::any_ends_with(std::string_view suffix) const {
  return std::any_of(tensors_.begin(), tensors_.end(),
                     [&](const RawTensor& tensor) { return tensor.name.ends_with(suffix); });
}

void check_shape(const RawTensor& tensor, const Shape& expected) {
  if (tensor.shape == expected) return;
  throw Error(ErrorCode::kCorruptData,
              fmt::format("the shape must be {}, found {} (as {})", to_string(expected),
                          to_string(tensor.shape), to_string(tensor.dtype)),
              "the file belongs to another configuration");
}

void add_dense(CheckpointParts& impl, const TensorRole& role, const RawTensor& tensor) {
  in_context(tensor.name, [&] {
    check_shape(tensor, role.shape);
    const bool norm = role.kind == TensorKind::kNorm;
    if (norm ? !is_float(tensor.dtype) : !is_dense_type(tensor.dtype)) {
      throw Error(ErrorCode::kCorruptData,
                  fmt::format("the type must be {}, found {}",
                              norm ? "f32, f16, bf16 or f64" : "f32, f16, bf16, f64, q8_0, q6_k or q4_0",
                              to_string(tensor.dtype)));
    }
    DenseSource source = {role.name, tensor.dtype, tensor.shape, tensor.bytes};
    if (norm) {
      const std::vector<float> values = read_dense(source);
      if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
        throw Error(ErrorCode::kCorruptData, "the norm's weights hold a NaN or an infinity",
                    "the file is damaged");
      }
    }
    impl.dense_index.emplace(role.name, impl.dense.size());
    impl.dense.push_back(std::move(source));
  });
}

void add_linear(CheckpointParts& impl, const TensorRole& role, std::unique_ptr<TernarySource> source) {
  impl.linear_index.emplace(role.name, impl.linears.size());
  impl.linear_names.push_back(role.name);
  impl.linears.push_back(std::move(source));
}

float read_scale(const RawTensor& tensor) {
  return in_context(tensor.name, [&] {
    if (!is_float(tensor.dtype) || element_count(tensor.shape) != 1) {
      throw Error(ErrorCode::kCorruptData, fmt::format("a scale must be one float, found {} {}",
                                                       to_string(tensor.dtype), to_string(tensor.shape)));
    }
    float scale = 0;
    dequantize_row(tensor.dtype, tensor.bytes, {&scale, 1});
    if (!std::isfinite(scale) || scale <= 0) {
      throw Error(ErrorCode::kCorruptData,
                  fmt::format("a scale must be finite and positive, found {}", scale), "the file is damaged");
    }
    return scale;
  });
}

void set_stop_tokens(CheckpointParts& impl, std::vector<int32_t> from_config) {
  std::vector<int32_t>& stops = impl.stop_tokens;
  stops = std::move(from_config);
  if (impl.tokenizer) {
    stops.insert(stops.end(), impl.tokenizer->stop_tokens.begin(), impl.tokenizer->stop_tokens.end());
    if (impl.tokenizer->bos) impl.bos_token = impl.tokenizer->bos;
  }
  const auto outside = [&](int32_t id) { return id < 0 || id >= impl.config.vocab_size; };
  stops.erase(std::remove_if(stops.begin(), stops.end(), outside), stops.end());
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());
  if (impl.bos_token && outside(*impl.bos_token)) impl.bos_token.reset();
}

void check_vocabulary(const CheckpointParts& impl) {
  if (!impl.tokenizer) return;
  const auto tokens = static_cast<int64_t>(impl.tokenizer->tokens.size());
  if (tokens <= impl.config.vocab_size) return;
  throw Error(ErrorCode::kCorruptData,
              fmt::format("the tokenizer has {} tokens, but the embedding only {} rows", tokens,
                          impl.config.vocab_size),
              "the tokenizer belongs to another model, or the embedding was not resized");
}

void warn_unused(const CheckpointParts& impl, const TensorTable& table) {
  if (!log_enabled(LogLevel::kWarning)) return;
  constexpr size_t kShown = 5;
  std::vector<std::string> names = table.unused();
  if (names.empty()) return;
  const size_t count = names.size();
  if (count > kShown) names.resize(kShown);
  log_message(LogLevel::kWarning,
              fmt::format("{}: {} tensors are not used by this architecture: {}{}", impl.path.string(), count,
                          fmt::join(names, ", "), count > kShown ? ", ..." : ""));
}

struct Checkpoint::Impl : CheckpointParts {};

Checkpoint::Checkpoint() : impl_(std::make_unique<Impl>()) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const std::filesystem::path& path) {
  Checkpoint checkpoint;
  Impl& impl = *checkpoint.impl_;
  impl.path = path;
  in_context(path.string(), [&] {
    std::error_code failure;
    if (std::filesystem::is_directory(path, failure)) {
      impl.format = Format::kHuggingFace;
      open_huggingface(impl);
    } else if (path.extension() == ".safetensors") {
      throw Error(ErrorCode::kUnsupported,
                  "a model is a .gguf file or a Hugging Face folder, found a safetensors file",
                  "give the folder that holds config.json and the safetensors files");
    } else {
      impl.format = Format::kGguf;
      open_gguf(impl);
    }
    check_vocabulary(impl);
  });
  return checkpoint;
}

Checkpoint::Format Checkpoint::format() const {
  return impl_->format;
}
const std::filesystem::path& Checkpoint::path() const {
  return impl_->path;
}
const ModelConfig& Checkpoint::config() const {
  return impl_->config;
}
const std::optional<TokenizerSpec>& Checkpoint::tokenizer() const {
  return impl_->tokenizer;
}
const std::vector<int32_t>& Checkpoint::stop_tokens() const {
  return impl_->stop_tokens;
}
std::optional<int32_t> Checkpoint::bos_token() const {
  return impl_->bos_token;
}
const std::vector<DenseSource>& Checkpoint::dense_tensors() const {
  return impl_->dense;
}
const std::vector<std::string>& Checkpoint::linear_names() const {
  return impl_->linear_names;
}

const DenseSource& Checkpoint::dense(std::string_view name) const {
  const auto found = impl_->dense_index.find(std::string(name));
  if (found != impl_->dense_index.end()) return impl_->dense[found->second];
  throw Error(ErrorCode::kNotFound, fmt::format("{}: no dense tensor '{}'", impl_->path.string(), name));
}

const TernarySource& Checkpoint::linear(std::string_view name) const {
  const auto found = impl_->linear_index.find(std::string(name));
  if (found != impl_->linear_index.end()) return *impl_->linears[found->second];
  throw Error(ErrorCode::kNotFound, fmt::format("{}: no linear layer '{}'", impl_->path.string(), name));
}

std::vector<float> read_dense(const DenseSource& source) {
  std::vector<float> values(static_cast<size_t>(element_count(source.shape)));
  dequantize_row(source.dtype, source.bytes, values);
  return values;
}

}  // namespace bitnet
