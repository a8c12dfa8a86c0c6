#include "small_model.h"

#include "bitnet/io/gguf.h"
#include "bitnet/io/safetensors.h"
#include "bitnet/quant/block_formats.h"
#include "bitnet/quant/ternary_formats.h"
#include "model/names.h"

#include <cmath>
#include <fstream>
#include <random>

namespace bitnet::testing {
namespace {

std::vector<std::byte> float_bytes(DType dtype, const std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() * static_cast<size_t>(dtype_info(dtype).block_bytes));
  quantize_row(dtype, values, bytes);
  return bytes;
}

FileTensor linear_tensor(DType dtype, const Shape& shape, const std::vector<int8_t>& trits, float scale) {
  FileTensor tensor{dtype, shape, {}};
  if (!is_ternary(dtype)) {
    std::vector<float> values;
    for (const int8_t trit : trits) values.push_back(static_cast<float>(trit) * scale);
    return float_tensor(shape, values, dtype);
  }
  tensor.bytes.resize(static_cast<size_t>(storage_bytes(dtype, shape)));
  encode_ternary_rows(dtype, shape[0], shape[1], 0, trits, scale, tensor.bytes);
  return tensor;
}

/// Rows of each head as interleaved RoPE wants them, written the other way round than the library does: the
/// destination of each half-split row.
std::vector<int8_t> interleave(const std::vector<int8_t>& trits, const Shape& shape, int64_t head_dim) {
  std::vector<int8_t> out(trits.size());
  const int64_t half = head_dim / 2;
  for (int64_t row = 0; row < shape[0]; ++row) {
    const int64_t head = row / head_dim, pair = row % head_dim % half, part = row % head_dim / half;
    const int64_t to = head * head_dim + 2 * pair + part;
    std::copy_n(trits.begin() + row * shape[1], shape[1], out.begin() + to * shape[1]);
  }
  return out;
}

}  // namespace

SmallModel::SmallModel(ModelConfig config, uint32_t seed) : config_(std::move(config)) {
  std::mt19937 random(seed);
  for (const TensorRole& role : tensor_roles(config_)) {
    shapes_[role.name] = role.shape;
    const auto count = static_cast<size_t>(element_count(role.shape));
    if (role.kind == TensorKind::kLinear) {
      linear_names_.push_back(role.name);
      auto& trits = trits_[role.name];
      for (size_t i = 0; i < count; ++i)
        trits.push_back(static_cast<int8_t>(static_cast<int>(random() % 3) - 1));
      scales_[role.name] = 0.01f + static_cast<float>(random() % 1000) * 0.0001f;
    } else {
      auto& values = dense_[role.name];
      for (size_t i = 0; i < count; ++i)
        values.push_back(static_cast<float>(random() % 2000) * 0.001f - 0.5f);
    }
  }
}

std::map<std::string, FileTensor> SmallModel::hf_tensors(HfQuantization::LinearClass linear_class,
                                                         DType linear_type) const {
  std::map<std::string, FileTensor> tensors;
  for (const auto& [name, values] : dense_) {
    tensors[hf_tensor_names(name).front()] = float_tensor(shapes_.at(name), values);
  }
  for (const std::string& name : linear_names_) {
    const std::string hf = hf_tensor_names(name).front();
    tensors[hf] = linear_tensor(linear_type, shapes_.at(name), trits_.at(name), scales_.at(name));
    if (linear_type != DType::kHfTernary) continue;
    tensors[hf].dtype = DType::kU8;
    tensors[hf].shape[0] /= 4;
    const bool multiply = linear_class == HfQuantization::LinearClass::kAutoBitLinear;
    tensors[hf + "_scale"] = float_tensor({1}, {multiply ? scales_.at(name) : 1.0f / scales_.at(name)});
  }
  return tensors;
}

std::map<std::string, FileTensor> SmallModel::gguf_tensors(DType linear_type) const {
  std::map<std::string, FileTensor> tensors;
  for (const auto& [name, values] : dense_) tensors[name] = float_tensor(shapes_.at(name), values);
  for (const std::string& name : linear_names_) {
    const bool rotary =
        name.find("attn_q.") != std::string::npos || name.find("attn_k.") != std::string::npos;
    const Shape& shape = shapes_.at(name);
    const auto trits = rotary && config_.architecture == "llama"
                           ? interleave(trits_.at(name), shape, config_.head_dim)
                           : trits_.at(name);
    tensors[name] = linear_tensor(linear_type, shape, trits, scales_.at(name));
  }
  return tensors;
}

ModelConfig small_config() {
  ModelConfig config;
  config.architecture = "bitnet-b1.58";
  config.name = "small";
  config.vocab_size = 96;
  config.hidden_size = 128;
  config.intermediate_size = 256;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.max_position = 64;
  config.rope_theta = 500000;
  return config;
}

ModelConfig small_llama_config() {
  ModelConfig config = small_config();
  config.architecture = "llama";
  config.activation = Activation::kSilu;
  config.sub_norms = false;
  config.tied_head = false;
  config.head_dim = 64;
  return config;
}

FileTensor float_tensor(Shape shape, const std::vector<float>& values, DType dtype) {
  return {dtype, std::move(shape), float_bytes(dtype, values)};
}

void write_text_file(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, FileTensor>& tensors) {
  SafetensorsWriter writer(path);
  for (const auto& [name, tensor] : tensors) writer.add_tensor(name, tensor.dtype, tensor.shape);
  writer.begin();
  for (const auto& [name, tensor] : tensors) writer.write(tensor.bytes);
  writer.finish();
}

void write_folder(const std::filesystem::path& folder, const HfConfig& config,
                  const std::map<std::string, FileTensor>& tensors) {
  std::filesystem::create_directories(folder);
  write_text_file(folder / "config.json", hf_config_to_json(config));
  write_safetensors(folder / "model.safetensors", tensors);
}

void write_gguf(const std::filesystem::path& path, const ModelConfig& config,
                const std::map<std::string, FileTensor>& tensors) {
  GgufWriter writer(path);
  add_config_to_gguf(config, writer);
  for (const auto& [name, tensor] : tensors) writer.add_tensor(name, tensor.dtype, tensor.shape);
  writer.begin();
  for (const auto& [name, tensor] : tensors) writer.write(tensor.bytes);
  writer.finish();
}

HfConfig packed_config(const ModelConfig& model, HfQuantization::LinearClass linear_class) {
  HfConfig config;
  config.model = model;
  config.quantization.linear_class = linear_class;
  config.quantization.declared = true;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  return config;
}

Matrix read_linear(const Checkpoint& checkpoint, const std::string& name) {
  const TernarySource& source = checkpoint.linear(name);
  Matrix matrix;
  matrix.trits.resize(static_cast<size_t>(source.rows() * source.cols()));
  matrix.scales.resize(static_cast<size_t>(source.rows()));
  source.read_rows(0, source.rows(), matrix.trits, matrix.scales);
  return matrix;
}

void expect_same_linears(const Checkpoint& checkpoint, const SmallModel& model, float tolerance) {
  ASSERT_EQ(checkpoint.linear_names(), model.linear_names());
  for (const std::string& name : model.linear_names()) {
    const Matrix matrix = read_linear(checkpoint, name);
    EXPECT_EQ(matrix.trits, model.trits(name)) << name;
    for (const float scale : matrix.scales) EXPECT_NEAR(scale / model.scale(name), 1.0f, tolerance) << name;
  }
}

void expect_same_linears(const Checkpoint& left, const Checkpoint& right, float tolerance) {
  ASSERT_EQ(left.linear_names(), right.linear_names());
  for (const std::string& name : left.linear_names()) {
    const Matrix a = read_linear(left, name), b = read_linear(right, name);
    EXPECT_EQ(a.trits, b.trits) << name;
    for (size_t i = 0; i < a.scales.size(); ++i)
      EXPECT_NEAR(a.scales[i] / b.scales[i], 1.0f, tolerance) << name;
  }
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorCode::kInternal, "nothing was thrown"};
}

}  // namespace bitnet::testing
