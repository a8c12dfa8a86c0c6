#include "bitnet/quant/ternary_formats.h"
#include "model/checkpoint_builder.h"
#include "model/config_rules.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// llama.cpp's bitnet files may hold a factor for a packed or float matrix in "blk.N.attn_q.scale".
std::string scale_name(std::string_view weight_name) {
  constexpr std::string_view kWeight = "weight";
  return std::string(weight_name.substr(0, weight_name.size() - kWeight.size())) + "scale";
}

/// Bytes from the tensor's start to the next tensor's, or to the end of the file.
int64_t room_of(const GgufFile& file, const RawTensor& tensor) {
  const std::span<const std::byte> all = file.file_bytes();
  const std::byte* end = all.data() + all.size();
  for (const GgufTensor& other : file.tensors()) {
    if (other.bytes.data() > tensor.bytes.data()) end = std::min(end, other.bytes.data());
  }
  return end - tensor.bytes.data();
}

/// microsoft's quantizer, run with several threads, cuts an I2_S tensor into chunks of about 16384 weights,
/// places each at 4 times its offset, and counts a tail of 32 bytes for every chunk in the tensor's size:
/// what lies behind that size is not in the file, three quarters of the weights. Found by that size, and by a
/// scale where it should not be (the first chunk's, behind its weights).
void refuse_scattered_chunks(const GgufFile& file, const RawTensor& tensor) {
  constexpr int64_t kChunkWeights = 32 * 512, kTailBytes = 32;
  const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  const int64_t chunk_rows = (kChunkWeights + cols - 1) / cols;
  const int64_t chunks = (rows + chunk_rows - 1) / chunk_rows;
  if (chunks < 2 || room_of(file, tensor) != rows * cols / 4 + chunks * kTailBytes) return;
  throw Error(
      ErrorCode::kCorruptData,
      fmt::format(
          "the i2_s tensor was written in {} scattered chunks, most of its weights are not in the file",
          chunks),
      "microsoft's quantizer does this when it runs with several threads: quantize again with one thread, "
      "or convert the original model with bitnet");
}

/// Checks what one row can tell, so that a damaged scale is found at open().
void probe_packed(const GgufFile& file, const RawTensor& tensor) {
  if (tensor.dtype == DType::kI2_S) refuse_scattered_chunks(file, tensor);
  std::vector<int8_t> trits(static_cast<size_t>(tensor.shape[1]));
  (void)decode_ternary_row({tensor.dtype, tensor.shape[0], tensor.shape[1], tensor.bytes}, 0, trits);
}

void add_gguf_linear(CheckpointParts& impl, const TensorRole& role, TensorTable& table) {
  const RawTensor& tensor = table.require(role.name);
  LinearBytes linear;
  linear.dtype = tensor.dtype;
  linear.rows = role.shape[0];
  linear.cols = role.shape[1];
  linear.bytes = tensor.bytes;
  linear.label = fmt::format("{}: {}", impl.path.string(), tensor.name);
  if (role.rotary && architecture_defaults(impl.config.architecture).permuted_in_gguf) {
    linear.order = RowOrder::interleaved(impl.config.head_dim);
  }
  if (const RawTensor* scale = table.take(scale_name(role.name))) linear.factor = read_scale(*scale);
  // A llama GGUF does not say whether it is a BitNet; float weights must be ternary already.
  linear.may_quantize = impl.config.architecture != "llama";
  in_context(tensor.name, [&] {
    check_shape(tensor, role.shape);
    if (is_ternary(tensor.dtype)) probe_packed(*impl.gguf, tensor);
    add_linear(impl, role, make_ternary_source(std::move(linear)));
  });
}

std::vector<int32_t> stop_tokens_of(const GgufFile& file) {
  std::vector<int32_t> ids;
  const auto add = [&](int64_t id) {
    if (id >= 0 && id <= INT32_MAX) ids.push_back(static_cast<int32_t>(id));
  };
  if (const auto eos = file.get_integer("tokenizer.ggml.eos_token_id")) add(*eos);
  if (const auto list = file.get_integers("bitnet.stop_token_ids")) {
    for (const int64_t id : *list) add(id);
  }
  return ids;
}

}  // namespace

void open_gguf(CheckpointParts& impl) {
  impl.gguf = GgufFile::open(impl.path);
  const GgufFile& file = *impl.gguf;
  impl.config = config_from_gguf(file);
  if (impl.config.name.empty()) impl.config.name = impl.path.stem().string();
  TensorTable table;
  for (const GgufTensor& tensor : file.tensors())
    table.add({tensor.name, tensor.dtype, tensor.shape, tensor.bytes});
  table.ignore("rope_freqs.weight");
  for (const TensorRole& role : tensor_roles(impl.config)) {
    if (role.kind == TensorKind::kLinear) {
      add_gguf_linear(impl, role, table);
    } else {
      add_dense(impl, role, table.require(role.name));
    }
  }
  warn_unused(impl, table);
  impl.tokenizer = tokenizer_spec_from_gguf(file);
  if (const auto bos = file.get_integer("tokenizer.ggml.bos_token_id");
      bos && *bos >= 0 && *bos <= INT32_MAX) {
    impl.bos_token = static_cast<int32_t>(*bos);
  }
  set_stop_tokens(impl, stop_tokens_of(file));
}

}  // namespace bitnet
